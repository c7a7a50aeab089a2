"""Signers as the v2, v3 and v3.1 schemes record them.

Source: https://source.android.com/docs/security/features/apksigning/v3 "Format". Lists are lp32 items in one lp32.
Bytes behind the last field of a structure are skipped, as on Android: apksigner writes some.
"""

from avf.apk.algorithms import ContentDigest, SignatureAlgorithm, algorithm_of
from avf.apk.errors import SigningBlockError, UnsupportedAlgorithm
from avf.apk.fields import FieldReader
from avf.named import NamedTuple

ATTRIBUTE_STRIPPING_PROTECTION = 0xBEEFF00D
ATTRIBUTE_PROOF_OF_ROTATION = 0x3BA06F8C
ATTRIBUTE_ROTATION_MIN_SDK = 0x559F8B02
ATTRIBUTE_ROTATION_ON_DEV_RELEASE = 0xC2A6B3BA
MAX_SDK = 0x7FFFFFFF
VERITY_SDK = 28
"""The first platform that knows verity digests."""


class Record(NamedTuple):
    """A digest or a signature and the id of the algorithm that made it."""

    algorithm_id: int
    value: bytes


class Attribute(NamedTuple):
    """One additional attribute; `offset` is its value's in the file."""

    attribute_id: int
    value: bytes
    offset: int | None


class Signer(NamedTuple):
    """One signer, nothing in it proved yet. v2 has no SDK range: it gets the widest one."""

    signed_data: bytes
    min_sdk: int
    max_sdk: int
    signatures: tuple[Record, ...]
    public_key: bytes
    offset: int | None = None
    """Where in the file the signer begins."""
    signed_data_offset: int | None = None

    def covers(self, sdk: int) -> bool:
        return self.min_sdk <= sdk <= self.max_sdk


class SignedData(NamedTuple):
    """What a signature covers."""

    digests: tuple[Record, ...]
    certificates: tuple[bytes, ...]
    min_sdk: int
    max_sdk: int
    attributes: tuple[Attribute, ...]

    def find(self, attribute_id: int) -> list[Attribute]:
        """All attributes with this id."""
        return [item for item in self.attributes if item.attribute_id == attribute_id]


def parse_signers(
    block: bytes, *, has_sdk_range: bool, offset: int | None = None
) -> tuple[Signer, ...]:
    """The signers in the value of a signature scheme's pair, which lies at `offset`."""
    reader = FieldReader(block, "signature scheme block", SigningBlockError, offset)
    return tuple([_parse_signer(item, has_sdk_range) for item in reader.items("signers")])


def _parse_signer(reader: FieldReader, has_sdk_range: bool) -> Signer:
    offset = reader.offset
    signed_data = reader.lp32("signed data")
    end = reader.offset
    low, high = _sdk_range(reader, has_sdk_range)
    signatures = _parse_records(reader, "signatures", "signature")
    public_key = reader.lp32("public key")
    start = None if end is None else end - len(signed_data)
    return Signer(signed_data, low, high, signatures, public_key, offset, start)


def parse_signed_data(signer: Signer, *, has_sdk_range: bool) -> SignedData:
    """Parse what `signer.signed_data` holds."""
    data = signer.signed_data
    reader = FieldReader(data, "signed data", SigningBlockError, signer.signed_data_offset)
    digests = _parse_records(reader, "digests", "digest")
    chain = [item.take(item.remaining, "certificate") for item in reader.items("certificates")]
    low, high = _sdk_range(reader, has_sdk_range)
    attributes = tuple([_attribute(item) for item in reader.items("additional attributes")])
    return SignedData(digests, tuple(chain), low, high, attributes)


def _attribute(item: FieldReader) -> Attribute:
    attribute_id = item.u32("attribute ID")
    offset = item.offset
    return Attribute(attribute_id, item.take(item.remaining, "attribute"), offset)


def strongest_signature(
    signer: Signer, sdk: int, *, first: bool = False
) -> tuple[SignatureAlgorithm, bytes]:
    """The signature with the strongest content digest that a platform knows.

    Among equals it is the last listed, as for AVF, or the `first`, as for Android.
    """
    best: tuple[SignatureAlgorithm, bytes] | None = None
    for record in signer.signatures:
        algorithm = algorithm_of(record.algorithm_id)
        if algorithm is None or (_is_verity(algorithm) and sdk < VERITY_SDK):
            continue
        stronger = best is None or algorithm.content_digest > best[0].content_digest
        if stronger or (not first and best and algorithm.content_digest == best[0].content_digest):
            best = (algorithm, record.value)
    if best is None:
        raise UnsupportedAlgorithm("No supported APK signatures found", offset=signer.offset)
    return best


def _is_verity(algorithm: SignatureAlgorithm) -> bool:
    return algorithm.content_digest is ContentDigest.VERITY_SHA256


def _sdk_range(reader: FieldReader, present: bool) -> tuple[int, int]:
    return (reader.u32("min SDK"), reader.u32("max SDK")) if present else (0, MAX_SDK)


def _parse_records(reader: FieldReader, field: str, item_field: str) -> tuple[Record, ...]:
    return tuple(
        [
            Record(item.u32(f"{item_field} algorithm ID"), item.lp32(item_field))
            for item in reader.items(field)
        ]
    )
