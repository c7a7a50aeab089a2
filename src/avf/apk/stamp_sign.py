"""Make source stamps, as apksigner does. Needs `cryptography`.

Source: `V2SourceStampSigner` of AOSP's tools/apksig.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from avf.apk.algorithms import KeyType, SignatureAlgorithm
from avf.apk.crypto import read_public_key
from avf.apk.errors import ApkError, SigningError
from avf.apk.fields import lp32, lp32_items, u32, u64
from avf.apk.keys import SigningKey
from avf.apk.lineage import LineageNode, encode_lineage, verify_lineage
from avf.apk.signers import parse_signers
from avf.apk.signing_block import STAMP_ENTRY, BlockId
from avf.apk.source import Source
from avf.apk.stamp import (
    ATTRIBUTE_LINEAGE,
    ATTRIBUTE_TIME,
    MANIFEST_KIND,
    MAX_STAMP_ENTRY,
    SCHEME_NUMBERS,
    V1_NUMBER,
    encode_digests,
    recorded_digests,
)
from avf.apk.v1.contents import read_contents
from avf.apk.zip import ZipSections, iter_entries

_ALGORITHMS = {
    KeyType.RSA: SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256,
    KeyType.EC: SignatureAlgorithm.ECDSA_SHA256,
    KeyType.DSA: SignatureAlgorithm.DSA_SHA256,
}


class StampSigner(NamedTuple):
    """Who puts a source stamp on an APK.

    apksigner makes stamps with RSA keys only; it accepts those by EC and DSA keys too.
    """

    key: SigningKey
    lineage: tuple[LineageNode, ...] = ()
    """Certificates that the stamp's key took over from; its own may be followed by others."""
    has_time: bool = True
    """Does the stamp say when it was made?"""
    overwrites: bool = False
    """May an entry `stamp-cert-sha256` of another certificate be replaced?"""

    @property
    def entry(self) -> tuple[str, bytes]:
        """Name and contents of the entry that names the certificate."""
        return STAMP_ENTRY, hashlib.sha256(self.key.certificate).digest()

    def check_entry(self, source: Source, sections: ZipSections) -> None:
        """SigningError if the APK names another certificate, and that must not be replaced."""
        name, wanted = self.entry
        for entry in iter_entries(source, sections):
            if entry.name != name or self.overwrites:
                continue
            if read_contents(source, entry, sections.cd_offset, MAX_STAMP_ENTRY) != wanted:
                raise SigningError(f"the APK has an entry {name} for another certificate")

    def block(
        self, pairs: Sequence[tuple[int, bytes]], manifest: bytes | None
    ) -> tuple[BlockId, bytes]:
        """The stamp: ID and value in the signing block, which has `pairs` besides. `manifest` is that of v1."""
        digests: dict[int, Mapping[int, bytes]] = {}
        for block_id, value in pairs:
            number = SCHEME_NUMBERS.get(block_id)
            if number:
                is_v2 = block_id == BlockId.V2
                signers = parse_signers(value, has_sdk_range=not is_v2)
                digests[number] = recorded_digests(signers, has_sdk_range=not is_v2)
        if manifest is not None:
            digests[V1_NUMBER] = {MANIFEST_KIND: hashlib.sha256(manifest).digest()}
        schemes = [
            u32(number) + self._signatures(encode_digests(found))
            for number, found in sorted(digests.items())
        ]
        attributes = lp32_items(self._attributes())
        fields = [
            lp32(self.key.certificate),
            lp32_items(schemes),
            lp32(attributes),
            self._signatures(attributes),
        ]
        return BlockId.STAMP_V2, lp32(b"".join(fields))

    def _signatures(self, data: bytes) -> bytes:
        algorithm = _ALGORITHMS[read_public_key(self.key.public_key).type]
        return lp32_items([u32(algorithm) + lp32(self.key.sign(algorithm, data))])

    def _attributes(self) -> list[bytes]:
        attributes = [u32(ATTRIBUTE_TIME) + u64(int(time.time()))] if self.has_time else []
        if self.lineage:
            attributes.append(u32(ATTRIBUTE_LINEAGE) + encode_lineage(self._own_lineage()))
        return attributes

    def _own_lineage(self) -> Sequence[LineageNode]:
        certificates = [node.certificate for node in self.lineage]
        if self.key.certificate not in certificates:
            raise SigningError("the lineage of the source stamp does not hold its certificate")
        try:
            verify_lineage(self.lineage)
        except ApkError as error:
            raise SigningError(f"the lineage of the source stamp: {error}") from None
        return self.lineage[: certificates.index(self.key.certificate) + 1]
