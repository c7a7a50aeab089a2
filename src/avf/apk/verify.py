"""Does an APK's signature prove its contents?

Follows the v3 scheme's verification steps (https://source.android.com/docs/security/features/apksigning/v3), with
v3.1 for rotated keys and, where the caller allows it, v2. First come AVF's checks in AVF's order, then those that
only Android's package manager makes: nothing stripped, and the proof of rotation. A platform applies the rules of
the schemes that it knows and passes over the others: v2 from SDK 24 on, v3 from 28, v3.1 from 33.
"""

from enum import Enum
from typing import BinaryIO

from avf.apk.algorithms import ContentDigest, SignatureAlgorithm
from avf.apk.crypto import certificate_public_key, read_public_key, verify_signature
from avf.apk.digest import content_digest, contents_of
from avf.apk.errors import (
    CertificateError,
    DigestMismatch,
    LineageError,
    NoSigner,
    PublicKeyError,
    SchemeNotFound,
    SignatureInvalid,
    SignatureStripped,
    SignerMismatch,
    SigningBlockError,
)
from avf.apk.lineage import LineageNode, parse_lineage, verify_lineage
from avf.apk.signers import (
    ATTRIBUTE_PROOF_OF_ROTATION,
    ATTRIBUTE_ROTATION_MIN_SDK,
    ATTRIBUTE_ROTATION_ON_DEV_RELEASE,
    ATTRIBUTE_STRIPPING_PROTECTION,
    Attribute,
    Record,
    SignedData,
    Signer,
    parse_signed_data,
    parse_signers,
    strongest_signature,
)
from avf.apk.signing_block import BlockId, SignedApk, find_signing_block
from avf.apk.source import Progress, open_source
from avf.apk.zip import check_directory
from avf.named import NamedTuple

DEFAULT_SDK = 34
V2_SDK = 24
"""The first platform that knows v2."""
V3_SDK = 28
V3_1_SDK = 33
MAX_V2_SIGNERS = 10
_V3_ID = 3


class Scheme(Enum):
    """An APK Signature Scheme."""

    V1 = "v1"
    V2 = "v2"
    V3 = "v3"
    V3_1 = "v3.1"


class Choice(NamedTuple):
    """The signers that count on a platform, not proved yet: one, or with v2 at least one."""

    scheme: Scheme
    signers: tuple[Signer, ...]
    rotated: tuple[Signer, ...]
    """Signers of v3.1 that do not count on this platform."""
    skipped_dev_release: bool
    """One of `rotated` covers the platform, but only while that is under development."""

    @property
    def has_sdk_range(self) -> bool:
        return self.scheme is not Scheme.V2


class VerifiedSigner(NamedTuple):
    """What one signer of a verified APK has proved."""

    public_key: bytes
    """SubjectPublicKeyInfo, DER."""
    certificates: tuple[bytes, ...]
    """X.509, DER; the signer's own first."""
    algorithm: SignatureAlgorithm
    """The strongest algorithm, which alone was checked."""
    digest: bytes
    """The content digest that `algorithm` signs."""
    digests: tuple[Record, ...]
    """Every recorded digest, in order."""
    min_sdk: int
    max_sdk: int
    lineage: tuple[LineageNode, ...]
    """The signer's certificates from the oldest to its own; empty if its key was never rotated."""


class VerifiedApk(NamedTuple):
    """What a verified APK has proved. The properties are those of the first signer: with v3 there is no other."""

    scheme: Scheme
    signers: tuple[VerifiedSigner, ...]
    size: int
    """True length in bytes."""

    @property
    def public_key(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return self.signers[0].public_key

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """X.509, DER; the signer's own first."""
        return self.signers[0].certificates

    @property
    def algorithm(self) -> SignatureAlgorithm:
        """With which the APK was signed."""
        return self.signers[0].algorithm

    @property
    def digest(self) -> bytes:
        """The content digest that `algorithm` signs."""
        return self.signers[0].digest

    @property
    def min_sdk(self) -> int:
        """The lowest API level for which the signature counts."""
        return self.signers[0].min_sdk

    @property
    def max_sdk(self) -> int:
        """The highest API level for which the signature counts."""
        return self.signers[0].max_sdk

    @property
    def lineage(self) -> tuple[LineageNode, ...]:
        """Certificates from the oldest to the signer's own; empty if the key was never rotated."""
        return self.signers[0].lineage


def verify(
    apk: int | BinaryIO,
    *,
    sdk: int = DEFAULT_SDK,
    size: int | None = None,
    allow_v2: bool = False,
    progress: Progress | None = None,
) -> VerifiedApk:
    """Check the signature and every byte of an APK.

    `apk` is a descriptor (regular file or block device; its offset stays) or a seekable file, read up to `size`;
    zeros that pad it to a multiple of 4096 do not count. `sdk` picks the signer among those of a rotated key; both
    ends of a signer's range are inclusive. Raises an ApkError that says which step failed.
    """
    source = open_source(apk, size, progress)
    signed_apk = find_signing_block(source)
    verified = verify_for(signed_apk, ContentDigests(signed_apk), sdk, allow_v2=allow_v2)
    check_directory(source, signed_apk.zip)
    source.check_unchanged()
    return verified


def verify_for(
    apk: SignedApk,
    digests: "ContentDigests",
    sdk: int,
    *,
    allow_v2: bool = False,
    first: bool = False,
) -> VerifiedApk:
    """What the platform `sdk` says of the signatures and the contents.

    Of a signer's equally strong signatures the last counts, as for AVF, or the `first`, as for Android.
    """
    choice = choose_signers(apk, sdk, allow_v2=allow_v2)
    signers = tuple(
        [_verify_signer(choice, signer, digests, sdk, first) for signer in choice.signers]
    )
    return VerifiedApk(choice.scheme, signers, apk.zip.size)


def recorded_digest(
    apk: SignedApk, sdk: int = DEFAULT_SDK, *, allow_v2: bool = False
) -> tuple[SignatureAlgorithm, bytes]:
    """The strongest algorithm and the content digest recorded for it. Nothing is verified."""
    choice = choose_signers(apk, sdk, allow_v2=allow_v2)
    signer = choice.signers[0]
    algorithm, _ = strongest_signature(signer, sdk)
    signed_data = parse_signed_data(signer, has_sdk_range=choice.has_sdk_range)
    return algorithm, _digest_for(signed_data, algorithm)


def claimed_public_key(
    apk: int | BinaryIO, *, sdk: int = DEFAULT_SDK, size: int | None = None
) -> bytes:
    """The public key (DER) that the APK claims, unproved: for contents that were trusted before."""
    return choose_signers(find_signing_block(open_source(apk, size)), sdk).signers[0].public_key


def choose_signers(apk: SignedApk, sdk: int, *, allow_v2: bool = False) -> Choice:
    """The signer for platform `sdk`: of v3.1 if that covers it, else of v3, else those of v2 if allowed."""
    rotated = _rotated_signers(apk) if sdk >= V3_1_SDK and apk.has(BlockId.V3_1) else ()
    covering = [signer for signer in rotated if signer.covers(sdk)]
    usable = [signer for signer in covering if not _only_under_development(signer, sdk)]
    if usable:
        return Choice(Scheme.V3_1, (_only(usable, "V3.1"),), (), False)
    if sdk >= V3_SDK and (apk.has(BlockId.V3) or not allow_v2):
        signers = [signer for signer in signers_of(apk, BlockId.V3) if signer.covers(sdk)]
        return Choice(Scheme.V3, (_only(signers, "V3"),), rotated, bool(covering))
    if sdk >= V2_SDK and allow_v2:
        return Choice(Scheme.V2, _some(signers_of(apk, BlockId.V2)), rotated, bool(covering))
    known = "v1 (JAR) signatures only" if sdk < V2_SDK else "no v3"
    raise SchemeNotFound(
        f"The APK is not signed with a scheme accepted here: a platform of SDK {sdk} knows {known}"
    )


def _rotated_signers(apk: SignedApk) -> tuple[Signer, ...]:
    signers = signers_of(apk, BlockId.V3_1)
    if not signers:
        raise NoSigner("APK Signature Scheme V3.1 supports one signer for an SDK: 0 signers found.")
    return signers


def signers_of(apk: SignedApk, block_id: BlockId) -> tuple[Signer, ...]:
    """All signers of one scheme; SchemeNotFound if the APK has no such signature."""
    try:
        block, offset = apk.find(block_id)
    except SchemeNotFound as error:
        raise SchemeNotFound(
            f"The APK is not signed with a scheme accepted here: {error}", offset=error.offset
        ) from None
    return parse_signers(block, has_sdk_range=block_id != BlockId.V2, offset=offset)


def _only_under_development(signer: Signer, sdk: int) -> bool:
    """A v3.1 signer may ask for the successor of its lowest SDK while that still has the same number.

    Here, as on a released platform, such a signer does not count for that number.
    """
    if signer.min_sdk != sdk:
        return False
    signed_data = parse_signed_data(signer, has_sdk_range=True)
    return bool(signed_data.find(ATTRIBUTE_ROTATION_ON_DEV_RELEASE))


def _only(signers: list[Signer], scheme: str) -> Signer:
    if len(signers) != 1:
        raise NoSigner(
            f"APK Signature Scheme {scheme} only supports one signer: {len(signers)} signers found.",
            offset=signers[1].offset if signers else None,
        )
    return signers[0]


def _some(signers: tuple[Signer, ...]) -> tuple[Signer, ...]:
    if not 1 <= len(signers) <= MAX_V2_SIGNERS:
        raise NoSigner(
            f"APK Signature Scheme V2 supports 1 to {MAX_V2_SIGNERS} signers: "
            f"{len(signers)} signers found."
        )
    return signers


class ContentDigests:
    """The content digests of an APK, each computed once."""

    def __init__(self, apk: SignedApk) -> None:
        self._apk = apk
        self._known: dict[ContentDigest, bytes] = {}

    def get(self, kind: ContentDigest) -> bytes:
        if kind not in self._known:
            self._known[kind] = content_digest(contents_of(self._apk), kind)
        return self._known[kind]


def _verify_signer(
    choice: Choice, signer: Signer, digests: ContentDigests, sdk: int, first: bool
) -> VerifiedSigner:
    algorithm, signature = strongest_signature(signer, sdk, first=first)
    _check_signature(signer, algorithm, signature)
    signed_data = parse_signed_data(signer, has_sdk_range=choice.has_sdk_range)
    _check_consistent(signer, signed_data)
    digest = _check_contents(signed_data, algorithm, digests)
    _check_certificate(signer, signed_data)
    _check_not_stripped(choice, signed_data, sdk)
    lineage = _check_lineage(signed_data) if choice.has_sdk_range else ()
    return VerifiedSigner(
        signer.public_key,
        signed_data.certificates,
        algorithm,
        digest,
        signed_data.digests,
        signer.min_sdk,
        signer.max_sdk,
        lineage,
    )


def _check_signature(signer: Signer, algorithm: SignatureAlgorithm, signature: bytes) -> None:
    try:
        verify_signature(algorithm, signer.public_key, signer.signed_data, signature)
    except SignatureInvalid as error:
        error.offset = signer.offset
        raise


def _check_consistent(signer: Signer, signed_data: SignedData) -> None:
    if (signer.min_sdk, signer.max_sdk) != (signed_data.min_sdk, signed_data.max_sdk):
        raise SignerMismatch(
            "SDK versions mismatch between signed and unsigned in v3 signer block.",
            offset=signer.offset,
        )
    signature_ids = [record.algorithm_id for record in signer.signatures]
    if signature_ids != [record.algorithm_id for record in signed_data.digests]:
        raise SignerMismatch(
            "Signature algorithms don't match between digests and signatures records",
            offset=signer.offset,
        )


def _digest_for(signed_data: SignedData, algorithm: SignatureAlgorithm) -> bytes:
    for record in signed_data.digests:
        if record.algorithm_id == algorithm:
            return record.value
    raise SignerMismatch(f"Digest not found for algorithm: {algorithm.name}")


def _check_contents(
    signed_data: SignedData, algorithm: SignatureAlgorithm, digests: ContentDigests
) -> bytes:
    expected = _digest_for(signed_data, algorithm)
    computed = digests.get(algorithm.content_digest)
    if computed != expected:
        raise DigestMismatch(
            f"Digest mismatch: computed={computed.hex()} vs expected={expected.hex()}"
        )
    return computed


def _check_certificate(signer: Signer, signed_data: SignedData) -> None:
    """Every certificate is one, and the first holds the signer's key."""
    if not signed_data.certificates:
        raise CertificateError("No certificates listed", offset=signer.offset)
    keys = [certificate_public_key(certificate) for certificate in signed_data.certificates]
    try:
        expected = read_public_key(keys[0]).der
    except PublicKeyError as error:
        raise CertificateError(f"Certificate: {error}", offset=signer.offset) from None
    if expected != signer.public_key:
        raise SignerMismatch(
            "Public key mismatch between certificate and signature record", offset=signer.offset
        )


def _check_not_stripped(choice: Choice, signed_data: SignedData, sdk: int) -> None:
    """A signer may say that a better signature exists; without that one the APK was tampered with."""
    if choice.scheme is Scheme.V2 and sdk >= V3_SDK:
        for attribute in signed_data.find(ATTRIBUTE_STRIPPING_PROTECTION):
            if _u32(attribute, "stripping protection") == _V3_ID:
                raise SignatureStripped(
                    "The v2 signature says that the APK has one of v3, but there is none",
                    offset=attribute.offset,
                )
    if choice.scheme is Scheme.V3 and sdk >= V3_1_SDK:
        for attribute in signed_data.find(ATTRIBUTE_ROTATION_MIN_SDK):
            _check_rotated(choice, attribute, sdk)


def _check_rotated(choice: Choice, attribute: Attribute, sdk: int) -> None:
    """v3 says from which SDK on v3.1 counts; that may be the one still under development."""
    promised = _u32(attribute, "rotation min SDK")
    expected = f"Expected a v3.1 signer from SDK {promised} on"
    if not choice.rotated:
        raise SignatureStripped(f"{expected}, but there is none", offset=attribute.offset)
    lowest = min(signer.min_sdk for signer in choice.rotated)
    if promised not in (lowest, lowest + 1):
        raise SignatureStripped(
            f"{expected}, but it counts from {lowest} on", offset=attribute.offset
        )
    if promised < sdk or (promised == sdk and not choice.skipped_dev_release):
        raise SignatureStripped(f"{expected}, but none covers SDK {sdk}", offset=attribute.offset)


def _u32(attribute: Attribute, name: str) -> int:
    """The number that an attribute begins with; what follows it is skipped, as on Android."""
    if len(attribute.value) < 4:
        raise SigningBlockError(
            f"signed data: {name} attribute is not 4 bytes", offset=attribute.offset
        )
    return int.from_bytes(attribute.value[:4], "little")


def _check_lineage(signed_data: SignedData) -> tuple[LineageNode, ...]:
    """The proof of rotation, if there is one; it must lead to the signer's certificate."""
    attributes = signed_data.find(ATTRIBUTE_PROOF_OF_ROTATION)
    if not attributes:
        return ()
    if len(attributes) > 1:
        raise LineageError("proof of rotation: there are several", offset=attributes[1].offset)
    offset = attributes[0].offset
    nodes = parse_lineage(attributes[0].value, offset)
    try:
        verify_lineage(nodes)
    except LineageError as error:
        error.offset = offset
        raise
    if nodes[-1].certificate != signed_data.certificates[0]:
        raise LineageError(
            "proof of rotation: its last certificate is not the signer's", offset=offset
        )
    return nodes
