"""Sign APKs with the v1, v2, v3 and v3.1 schemes and idsigs with v4. Needs `cryptography`; no Java."""

import io
import os
from collections.abc import Collection, Sequence
from typing import BinaryIO, NamedTuple

from avf.apk import signing_block
from avf.apk.algorithms import ContentDigest, SignatureAlgorithm
from avf.apk.digest import Contents, content_digest
from avf.apk.errors import ApkError, SigningError
from avf.apk.fields import lp32, lp32_items, u32
from avf.apk.idsig import Idsig, SigningInfo
from avf.apk.keys import SigningKey
from avf.apk.lineage import Capability, LineageNode, encode_lineage, verify_lineage
from avf.apk.rewrite import LIBRARY_PAGE
from avf.apk.signers import (
    ATTRIBUTE_PROOF_OF_ROTATION,
    ATTRIBUTE_ROTATION_MIN_SDK,
    ATTRIBUTE_ROTATION_ON_DEV_RELEASE,
    ATTRIBUTE_STRIPPING_PROTECTION,
    MAX_SDK,
)
from avf.apk.signing_block import BlockId, find_signing_block
from avf.apk.source import Source, open_source
from avf.apk.stamp_sign import StampSigner
from avf.apk.unsigned import ALIGNMENT, with_cd_offset, write_unsigned
from avf.apk.v1.manifest import MANIFEST
from avf.apk.v1.sign import SignedFile, V1Party, V1Signature
from avf.apk.verify import DEFAULT_SDK, MAX_V2_SIGNERS, V2_SDK, V3_1_SDK, Scheme, recorded_digest
from avf.apk.zip import ZipSections

DEFAULT_MIN_SDK = 28
V3_1_MIN_SDK = V3_1_SDK
"""The first SDK that knows v3.1."""
DEFAULT_CAPABILITIES = (
    Capability.INSTALLED_DATA | Capability.SHARED_UID | Capability.PERMISSION | Capability.AUTH
)
"""What apksigner grants an old certificate."""
_V3_ID = 3
_V1_NUMBERS = ((2, Scheme.V2), (3, Scheme.V3))
"""As a v1 signature calls the other schemes."""
_VERITY = {
    SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256: SignatureAlgorithm.VERITY_RSA_PKCS1_V1_5_SHA256,
    SignatureAlgorithm.ECDSA_SHA256: SignatureAlgorithm.VERITY_ECDSA_SHA256,
    SignatureAlgorithm.DSA_SHA256: SignatureAlgorithm.VERITY_DSA_SHA256,
}


class Rotation(NamedTuple):
    """How an APK's key took over: from SDK `min_sdk` on it signs, before that `old` does.

    Below SDK 33 no platform knows v3.1, so with an earlier `min_sdk` the new key signs all of v3, and `old` only v2.
    """

    old: SigningKey | None
    """Of the first certificate in `lineage`; None where it signs for no platform and with no scheme."""
    lineage: tuple[LineageNode, ...]
    """Ends with the new key's certificate."""
    min_sdk: int = V3_1_MIN_SDK
    targets_dev_release: bool = False
    """`min_sdk` is a platform whose successor is meant, which has the same number while it is under development."""


def rotate(
    old: SigningKey,
    new: SigningKey,
    lineage: Sequence[LineageNode] = (),
    *,
    capabilities: Capability = DEFAULT_CAPABILITIES,
    old_capabilities: Capability | None = None,
) -> tuple[LineageNode, ...]:
    """Let `old` hand on to `new`: the lineage with one certificate more. An empty one begins with `old`.

    `capabilities` are those of `new`; `old_capabilities` default to what the lineage says, or `capabilities`.
    """
    nodes = list(lineage) or [LineageNode(old.certificate, capabilities, 0, 0, b"")]
    if nodes[-1].certificate != old.certificate:
        raise SigningError("the lineage does not end with the old key's certificate")
    nodes[-1] = nodes[-1]._replace(algorithm_id=old.algorithm)
    if old_capabilities is not None:
        nodes[-1] = nodes[-1]._replace(capabilities=old_capabilities)
    added = LineageNode(new.certificate, capabilities, old.algorithm, 0, b"")
    nodes.append(added._replace(signature=old.sign(old.algorithm, added.signed_data)))
    try:
        verify_lineage(nodes)
    except ApkError as error:
        raise SigningError(f"cannot rotate: {error}") from None
    return tuple(nodes)


def sign(
    apk: int | BinaryIO,
    out: BinaryIO,
    key: SigningKey,
    *,
    schemes: Collection[Scheme] = (Scheme.V2, Scheme.V3),
    algorithms: Collection[SignatureAlgorithm] = (),
    min_sdk: int = DEFAULT_MIN_SDK,
    max_sdk: int = MAX_SDK,
    others: Sequence[SigningKey] = (),
    rotation: Rotation | None = None,
    verity: bool = False,
    align: bool = False,
    library_page: int = LIBRARY_PAGE,
    v1_names: Sequence[str] = (),
    stamp: StampSigner | None = None,
) -> None:
    """Write `apk`, signed anew, to `out`, an empty file open for reading and writing, and not `apk` itself.

    An APK Signing Block that is there is dropped, and so are the files of a v1 signature and the entry of a source
    stamp. The new block begins and ends on 4096-byte boundaries. `algorithms` are those of `key` and default to
    `key.algorithm`. `others` sign beside `key`, which v1 and v2 alone allow. `v1_names` name the files of the v1
    signers (CERT, CERT2 ...). With `rotation` an earlier key serves older platforms. `verity` adds a signature over a
    verity digest to each one over SHA-256. `align` moves stored entries to boundaries of 4 bytes, native libraries of
    `library_page` bytes. `stamp` puts a source stamp into the APK. SigningError if the ZIP is not one that Android
    installs, or if `min_sdk` is below 24 without v1, which such platforms ask for.
    """
    _check_request(key, set(schemes), others, rotation, min_sdk)
    _check_two_files(apk, out)
    v1 = None
    if Scheme.V1 in schemes:
        v1 = _v1_signature([_old_key(rotation) if rotation else key, *others], v1_names, schemes)
    files: list[SignedFile] = []

    def make_files(source: Source, sections: ZipSections) -> list[SignedFile]:
        if stamp:
            stamp.check_entry(source, sections)
            files.append(stamp.entry)
        if v1:
            files.extend(v1._replace(added=files).files(source, sections, min_sdk))
        return files

    page = library_page if align else None
    digests = _Digests(write_unsigned(apk, out, page, make_files))
    first = _Party(key, tuple(algorithms)) if algorithms else _Party.of(key, verity)
    pairs: list[tuple[int, bytes]] = []
    if Scheme.V2 in schemes:
        oldest = _Party.of(_old_key(rotation), verity) if rotation else first
        parties = [oldest, *[_Party.of(other, verity) for other in others]]
        protection = [u32(ATTRIBUTE_STRIPPING_PROTECTION) + u32(_V3_ID)]
        attributes = protection if Scheme.V3 in schemes else []
        signers = [_signer(party, digests, b"", attributes) for party in parties]
        pairs.append((BlockId.V2, lp32_items(signers)))
    if Scheme.V3 in schemes:
        pairs += _v3_pairs(first, digests, (max(min_sdk, V2_SDK), max_sdk), rotation, verity)
    if stamp:
        pairs.append(stamp.block(pairs, dict(files).get(MANIFEST)))
    if pairs:
        _write_signed(out, digests.contents, padded_block(pairs))


def sign_idsig(
    idsig: Idsig, apk_size: int, key: SigningKey, *, rotated: SigningInfo | None = None
) -> None:
    """Fill in certificate, key and signature of an idsig, as `apksigner` does for v4.

    `key` is that of the APK's v3 signer; `rotated` is the signed info of the v3.1 signer, if there is one.
    """
    info = _signed_info(idsig, apk_size, key, idsig.apk_digest)
    for name, value in info._asdict().items():
        setattr(idsig, name, value)
    if rotated:
        idsig.other_signers = u32(BlockId.V3_1) + lp32(rotated.encode())
    idsig.tree_offset = len(idsig.header())


def make_signed_idsig(
    apk: int | BinaryIO,
    key: SigningKey,
    *,
    sdk: int = DEFAULT_SDK,
    rotation: Rotation | None = None,
) -> Idsig:
    """A new idsig with a v4 signature for an APK that was signed with `key` and `rotation`.

    Where the APK has a v3.1 signer, the v3 signer's info comes first and that of the v3.1 signer behind it.
    """
    signed_apk = find_signing_block(open_source(apk))
    size = signed_apk.zip.size
    if rotation is None or not signed_apk.has(BlockId.V3_1):
        idsig = Idsig.create(apk, sdk=sdk, allow_v2=True)
        sign_idsig(idsig, size, key)
        return idsig
    idsig = Idsig.create(apk, sdk=rotation.min_sdk - 1)
    _, recorded = recorded_digest(signed_apk, rotation.min_sdk + rotation.targets_dev_release)
    rotated = _signed_info(idsig, size, key, recorded)
    sign_idsig(idsig, size, _old_key(rotation), rotated=rotated)
    return idsig


def _signed_info(idsig: Idsig, apk_size: int, key: SigningKey, digest: bytes) -> SigningInfo:
    algorithm, more = key.algorithm, idsig.additional_data
    info = SigningInfo(digest, key.certificate, more, key.public_key, algorithm, b"")
    return info._replace(signature=key.sign(algorithm, idsig.signed_bytes(apk_size, info)))


def _check_two_files(apk: int | BinaryIO, out: BinaryIO) -> None:
    """SigningError if input and output are one file; nothing is lost then."""
    try:
        one = os.fstat(apk if isinstance(apk, int) else apk.fileno())
        same = os.path.samestat(one, os.fstat(out.fileno()))
    except io.UnsupportedOperation:
        same = apk is out
    if same:
        raise SigningError("cannot sign: input and output are the same file")


def _v1_signature(
    keys: Sequence[SigningKey], names: Sequence[str], schemes: Collection[Scheme]
) -> V1Signature:
    given = list(names) or ["CERT", *[f"CERT{number}" for number in range(2, len(keys) + 1)]]
    if len(given) != len(keys):
        raise SigningError(f"{len(given)} names for {len(keys)} signers of v1")
    parties = [V1Party(key, name) for key, name in zip(keys, given, strict=True)]
    return V1Signature(parties, [number for number, scheme in _V1_NUMBERS if scheme in schemes])


def padded_block(pairs: list[tuple[int, bytes]]) -> bytes:
    """A signing block of these values, padded to a multiple of 4096 bytes."""
    unpadded = len(signing_block.encode(pairs))
    padding_size = -(unpadded + 12) % ALIGNMENT
    return signing_block.encode([*pairs, (BlockId.VERITY_PADDING, bytes(padding_size))])


def _check_request(
    key: SigningKey,
    schemes: set[Scheme],
    others: Sequence[SigningKey],
    rotation: Rotation | None,
    min_sdk: int,
) -> None:
    if min_sdk < V2_SDK and Scheme.V1 not in schemes:
        raise SigningError(
            f"min SDK {min_sdk}: platforms before SDK {V2_SDK} accept v1 (JAR) signatures only"
        )
    if not schemes or not schemes <= {Scheme.V1, Scheme.V2, Scheme.V3}:
        raise SigningError("APKs can be signed with the schemes v1, v2 and v3")
    if others and (Scheme.V3 in schemes or len(others) >= MAX_V2_SIGNERS):
        raise SigningError(f"only v1 and v2 have several signers, at most {MAX_V2_SIGNERS}")
    if rotation is None:
        return
    if Scheme.V3 not in schemes:
        raise SigningError("v1 and v2 know no rotated keys")
    certificates = [node.certificate for node in rotation.lineage]
    firsts = [rotation.old.certificate] if rotation.old else certificates[:1]
    if certificates[:1] != firsts or certificates[-1:] != [key.certificate]:
        raise SigningError("the lineage does not lead from the old key to the new one")


def _old_key(rotation: Rotation) -> SigningKey:
    if rotation.old is None:
        raise SigningError("the key of the lineage's first certificate must sign too")
    return rotation.old


class _Digests:
    """The content digests of what is signed, each computed once."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self._known: dict[ContentDigest, bytes] = {}

    def get(self, kind: ContentDigest) -> bytes:
        if kind not in self._known:
            self._known[kind] = content_digest(self.contents, kind)
        return self._known[kind]


class _Party(NamedTuple):
    """A key and the algorithms that it signs with."""

    key: SigningKey
    algorithms: tuple[SignatureAlgorithm, ...]

    @classmethod
    def of(cls, key: SigningKey, verity: bool) -> "_Party":
        added = _VERITY.get(key.algorithm) if verity else None
        return cls(key, (key.algorithm, added) if added else (key.algorithm,))


def _v3_pairs(
    party: _Party,
    digests: _Digests,
    sdks: tuple[int, int],
    rotation: Rotation | None,
    verity: bool,
) -> list[tuple[int, bytes]]:
    if rotation is None:
        return [_v3_pair(BlockId.V3, party, digests, sdks, [])]
    low, high = sdks
    proof = [u32(ATTRIBUTE_PROOF_OF_ROTATION) + encode_lineage(rotation.lineage)]
    if rotation.min_sdk < V3_1_MIN_SDK or rotation.min_sdk <= low:
        return [_v3_pair(BlockId.V3, party, digests, sdks, proof)]
    last = rotation.min_sdk if rotation.targets_dev_release else rotation.min_sdk - 1
    before, since = (low, last), (rotation.min_sdk, high)
    if rotation.targets_dev_release:
        proof.append(u32(ATTRIBUTE_ROTATION_ON_DEV_RELEASE))
    promise = [u32(ATTRIBUTE_ROTATION_MIN_SDK) + u32(rotation.min_sdk)]
    return [
        _v3_pair(BlockId.V3, _Party.of(_old_key(rotation), verity), digests, before, promise),
        _v3_pair(BlockId.V3_1, party, digests, since, proof),
    ]


def _v3_pair(
    block_id: BlockId,
    party: _Party,
    digests: _Digests,
    sdks: tuple[int, int],
    attributes: list[bytes],
) -> tuple[int, bytes]:
    sdk_range = u32(sdks[0]) + u32(sdks[1])
    return block_id, lp32_items([_signer(party, digests, sdk_range, attributes)])


def _signer(party: _Party, digests: _Digests, sdk_range: bytes, attributes: list[bytes]) -> bytes:
    key = party.key
    recorded = [u32(a) + lp32(digests.get(a.content_digest)) for a in party.algorithms]
    signed_data = (
        lp32_items(recorded)
        + lp32_items(list(key.certificates))
        + sdk_range
        + lp32_items(attributes)
    )
    signatures = [u32(a) + lp32(key.sign(a, signed_data)) for a in party.algorithms]
    return lp32(signed_data) + sdk_range + lp32_items(signatures) + lp32(key.public_key)


def _write_signed(out: BinaryIO, contents: Contents, block: bytes) -> None:
    directory = contents.source.read_at(contents.cd_offset, contents.cd_size)
    out.seek(contents.front)
    out.write(block + directory + with_cd_offset(contents.eocd, contents.front + len(block)))
    out.flush()
