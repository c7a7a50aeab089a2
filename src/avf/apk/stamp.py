"""Source stamps: who a store says it has the APK from. Platforms do not look at them.

The entry `stamp-cert-sha256` holds the SHA-256 of the stamp's certificate, a value in the signing block the stamp:

    lp32 of: lp32 certificate (DER) | lp32 signed digests | lp32 attributes | lp32 signatures over the attributes

Signed digests are lp32 items `u32 scheme (1, 2, 3), lp32 signatures`, attributes lp32 items `u32 ID, value`; the last
two fields may be missing. The first version of the stamp has signatures in place of the digests, and no attributes.
What is signed for a scheme are its content digests, as lp32 items `u32 kind, lp32 digest`. Source:
`V2SourceStampVerifier` of AOSP's tools/apksig.
"""

import hashlib
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import BinaryIO, NamedTuple

from avf.apk.algorithms import ContentDigest, SignatureAlgorithm, algorithm_of
from avf.apk.crypto import certificate_public_key, read_public_key, verify_signature
from avf.apk.errors import (
    ApkError,
    CertificateError,
    DigestMismatch,
    LineageError,
    SchemeNotFound,
    SignatureInvalid,
    SigningBlockError,
    UnsupportedAlgorithm,
    ZipFormatError,
)
from avf.apk.fields import FieldReader, lp32, u32
from avf.apk.lineage import LineageNode, parse_lineage, verify_lineage
from avf.apk.signers import Signer, parse_signed_data
from avf.apk.signing_block import STAMP_ENTRY, BlockId, SignedApk, find_signing_block
from avf.apk.source import open_source
from avf.apk.v1.archive import MAX_FILE
from avf.apk.v1.manifest import MANIFEST
from avf.apk.verify import signers_of
from avf.apk.zip import find_sections, iter_raw_names, read_entry

MAX_STAMP_ENTRY = 1 << 16
ATTRIBUTE_LINEAGE = 0x9D6303F7
ATTRIBUTE_TIME = 0xE43C5946
_WHAT = "source stamp"
_KINDS = {
    ContentDigest.CHUNKED_SHA256: 1,
    ContentDigest.CHUNKED_SHA512: 2,
    ContentDigest.VERITY_SHA256: 3,
}
MANIFEST_KIND = 4
V1_NUMBER = 1
SCHEME_NUMBERS: dict[int, int] = {BlockId.V2: 2, BlockId.V3: 3}
"""As stamps call the schemes."""


class StampStatus(Enum):
    """What is to be said of an APK's source stamp."""

    MISSING = "missing"
    VERIFIED = "verified"
    NOT_VERIFIED = "not-verified"


class SourceStamp(NamedTuple):
    """The source stamp of an APK. Without a good stamp only `status`, `reason` and what was read before are set."""

    status: StampStatus
    reason: str | None = None
    """Why it is not verified."""
    version: int | None = None
    """1 or 2."""
    certificate: bytes | None = None
    """X.509, DER."""
    timestamp: int | None = None
    """When the stamp was made, in seconds since 1970."""
    lineage: tuple[LineageNode, ...] = ()
    """The stamp's certificates from the oldest to its own; empty if its key was never rotated."""


def source_stamp(apk: int | BinaryIO, *, with_v1: bool, size: int | None = None) -> SourceStamp:
    """The source stamp of an APK whose signatures were verified, which they are not here.

    The stamp must sign the content digests of v2 and v3, as far as the APK has them, and `with_v1` of the v1 manifest.
    A stamp that is broken raises nothing: the reason is told. FileChanged or InputError if the file cannot be read.
    """
    has_entry = _has_entry(apk, size)
    try:
        signed_apk = find_signing_block(open_source(apk, size))
        version, block, offset = _stamp_block(signed_apk)
    except SigningBlockError:
        if not has_entry:
            return SourceStamp(StampStatus.MISSING)
        return _bad(f"there is no source stamp in the signing block, but an entry {STAMP_ENTRY}")
    if not has_entry:
        return _bad(f"there is no entry {STAMP_ENTRY}, which names the stamp's certificate")
    try:
        expected = read_entry(apk, STAMP_ENTRY, limit=MAX_STAMP_ENTRY, size=size)
        digests = _digests(signed_apk)
        if with_v1:
            digests[V1_NUMBER] = {MANIFEST_KIND: _manifest_digest(apk, size)}
        return _verify(
            FieldReader(block, _WHAT, SigningBlockError, offset), version, expected, digests
        )
    except ApkError as error:
        return _bad(str(error))


def _bad(reason: str) -> SourceStamp:
    return SourceStamp(StampStatus.NOT_VERIFIED, reason)


def _has_entry(apk: int | BinaryIO, size: int | None) -> bool:
    source = open_source(apk, size)
    try:
        return STAMP_ENTRY.encode() in iter_raw_names(source, find_sections(source))
    except ZipFormatError:
        return False


def _stamp_block(apk: SignedApk) -> tuple[int, bytes, int]:
    """Version, value and its offset; SigningBlockError if there is none."""
    try:
        return (2, *apk.find(BlockId.STAMP_V2))
    except SchemeNotFound:
        return (1, *apk.find(BlockId.STAMP_V1))


def _digests(apk: SignedApk) -> dict[int, dict[int, bytes]]:
    """By number of scheme and kind of digest, what the signers of v2 and v3 recorded."""
    found: dict[int, dict[int, bytes]] = {}
    for block_id in (BlockId.V2, BlockId.V3):
        if apk.has(block_id):
            signers = signers_of(apk, block_id)
            has_sdk_range = block_id is not BlockId.V2
            found[SCHEME_NUMBERS[block_id]] = recorded_digests(signers, has_sdk_range=has_sdk_range)
    return found


def recorded_digests(signers: Iterable[Signer], *, has_sdk_range: bool) -> dict[int, bytes]:
    """By their kind, the content digests that the signers of one scheme recorded."""
    digests: dict[int, bytes] = {}
    for signer in signers:
        for record in parse_signed_data(signer, has_sdk_range=has_sdk_range).digests:
            algorithm = algorithm_of(record.algorithm_id)
            if algorithm:
                digests[_KINDS[algorithm.content_digest]] = record.value
    return digests


def _manifest_digest(apk: int | BinaryIO, size: int | None) -> bytes:
    data = read_entry(apk, MANIFEST, limit=MAX_FILE, size=size)
    return hashlib.sha256(data).digest()


def _verify(
    block: FieldReader, version: int, expected: bytes, digests: Mapping[int, Mapping[int, bytes]]
) -> SourceStamp:
    reader = block.inner(_WHAT)
    certificate = reader.lp32("certificate")
    digest = hashlib.sha256(certificate).digest()
    if digest != expected:
        raise DigestMismatch(
            f"the certificate of the source stamp has the SHA-256 {digest.hex()}, but {STAMP_ENTRY} holds "
            f"{expected[:32].hex()}"
        )
    try:
        key = read_public_key(certificate_public_key(certificate)).der
    except ApkError as error:
        raise CertificateError(f"certificate of the source stamp: {error}") from None
    stamp = SourceStamp(StampStatus.VERIFIED, None, version, certificate)
    if version == 1:
        merged = {kind: value for item in digests.values() for kind, value in item.items()}
        _check(key, reader, "signatures", encode_digests(merged))
        return stamp
    _check_schemes(key, reader, digests)
    if not reader.remaining:
        return stamp
    attributes = reader.lp32("attributes")
    _check(key, reader, "signatures over the attributes", attributes)
    return _with_attributes(stamp, FieldReader(attributes, _WHAT, SigningBlockError))


def _check_schemes(
    key: bytes, reader: FieldReader, digests: Mapping[int, Mapping[int, bytes]]
) -> None:
    """Every scheme of the APK must be signed."""
    signed = {item.u32("number of a scheme"): item for item in reader.items("signed digests")}
    for number, found in digests.items():
        if number not in signed:
            raise SignatureInvalid(f"the source stamp does not sign the digests of v{number}")
        _check(
            key, signed[number], f"signatures over the digests of v{number}", encode_digests(found)
        )


def encode_digests(digests: Mapping[int, bytes]) -> bytes:
    """What is signed: digests by their kind."""
    items = [u32(kind) + lp32(value) for kind, value in sorted(digests.items())]
    return b"".join(map(lp32, items))


def _check(key: bytes, reader: FieldReader, field: str, data: bytes) -> None:
    """The strongest of the signatures in the next field, or SignatureInvalid or UnsupportedAlgorithm."""
    found: dict[SignatureAlgorithm, bytes] = {}
    for item in reader.items(field):
        algorithm = algorithm_of(item.u32("algorithm"))
        signature = item.lp32("signature")
        if algorithm:
            found[algorithm] = signature
    if not found:
        raise UnsupportedAlgorithm(f"the source stamp has no {field} with a known algorithm")
    best = max(found, key=lambda item: item.content_digest)
    try:
        verify_signature(best, key, data, found[best])
    except SignatureInvalid:
        raise SignatureInvalid(f"the source stamp's {field} are not right") from None


def _with_attributes(stamp: SourceStamp, reader: FieldReader) -> SourceStamp:
    for item in reader.items("attributes"):
        kind = item.u32("attribute ID")
        if kind == ATTRIBUTE_TIME:
            seconds = int.from_bytes(item.take(8, "time"), "little", signed=True)
            if seconds <= 0:
                raise SigningBlockError(f"the source stamp was made at {seconds}, before 1970")
            stamp = stamp._replace(timestamp=seconds)
        elif kind == ATTRIBUTE_LINEAGE:
            stamp = stamp._replace(lineage=_lineage(stamp, item.take(item.remaining, "lineage")))
    return stamp


def _lineage(stamp: SourceStamp, data: bytes) -> tuple[LineageNode, ...]:
    nodes = parse_lineage(data)
    verify_lineage(nodes)
    if nodes[-1].certificate != stamp.certificate:
        raise LineageError("the lineage of the source stamp does not end with its certificate")
    return nodes
