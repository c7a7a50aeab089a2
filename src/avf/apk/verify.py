"""Does an APK's signature prove its contents?

Follows the v3 scheme's verification steps (https://source.android.com/docs/security/features/apksigning/v3), with
v3.1 for rotated keys and, where the caller allows it, v2.
"""

from enum import Enum
from typing import BinaryIO, NamedTuple

from avf.apk.algorithms import SignatureAlgorithm
from avf.apk.crypto import certificate_public_key, verify_signature
from avf.apk.digest import content_digest, contents_of
from avf.apk.errors import SchemeNotFound, SigningBlockError, VerificationError
from avf.apk.signers import (
    ATTRIBUTE_ROTATION_MIN_SDK,
    ATTRIBUTE_STRIPPING_PROTECTION,
    SignedData,
    Signer,
    parse_signed_data,
    parse_signers,
    strongest_signature,
)
from avf.apk.signing_block import BlockId, SignedApk, find_signing_block
from avf.apk.source import open_source

DEFAULT_SDK = 34


class Scheme(Enum):
    """An APK Signature Scheme."""

    V2 = "v2"
    V3 = "v3"
    V3_1 = "v3.1"


class Choice(NamedTuple):
    """The one signer that counts on a platform, not proved yet."""

    scheme: Scheme
    signer: Signer


class VerifiedApk(NamedTuple):
    """What a verified APK has proved. `size` is its true length in bytes."""

    scheme: Scheme
    public_key: bytes
    """SubjectPublicKeyInfo, DER."""
    certificates: tuple[bytes, ...]
    """X.509, DER; the signer's own first."""
    algorithm: SignatureAlgorithm
    digest: bytes
    """The content digest that `algorithm` signs."""
    min_sdk: int
    max_sdk: int
    size: int


def verify(
    apk: int | BinaryIO,
    *,
    sdk: int = DEFAULT_SDK,
    size: int | None = None,
    allow_v2: bool = False,
) -> VerifiedApk:
    """Check the signature and every byte of an APK.

    `apk` is a descriptor (regular file or block device; its offset stays) or a seekable file, read up to `size`;
    zeros that pad it to a multiple of 4096 do not count. `sdk` picks the signer among those of a rotated key; both
    ends of a signer's range are inclusive. Raises an ApkError that says which step failed.
    """
    signed_apk = find_signing_block(open_source(apk, size))
    choice = choose_signer(signed_apk, sdk, allow_v2=allow_v2)
    signer = choice.signer
    algorithm, signature = strongest_signature(signer)
    verify_signature(algorithm, signer.public_key, signer.signed_data, signature)
    signed_data = parse_signed_data(
        signer.signed_data, has_sdk_range=choice.scheme is not Scheme.V2
    )
    _check_consistent(signer, signed_data)
    _check_not_stripped(choice.scheme, signed_data, sdk)
    digest = _check_contents(signed_apk, signed_data, algorithm)
    _check_certificate(signer, signed_data)
    return VerifiedApk(
        choice.scheme,
        signer.public_key,
        signed_data.certificates,
        algorithm,
        digest,
        signer.min_sdk,
        signer.max_sdk,
        signed_apk.zip.size,
    )


def recorded_digest(
    apk: SignedApk, sdk: int = DEFAULT_SDK, *, allow_v2: bool = False
) -> tuple[SignatureAlgorithm, bytes]:
    """The strongest algorithm and the content digest recorded for it. Nothing is verified."""
    choice = choose_signer(apk, sdk, allow_v2=allow_v2)
    algorithm, _ = strongest_signature(choice.signer)
    signed_data = parse_signed_data(
        choice.signer.signed_data, has_sdk_range=choice.scheme is not Scheme.V2
    )
    return algorithm, _digest_for(signed_data, algorithm)


def claimed_public_key(
    apk: int | BinaryIO, *, sdk: int = DEFAULT_SDK, size: int | None = None
) -> bytes:
    """The public key (DER) that the APK claims, unproved: for contents that were trusted before."""
    return choose_signer(find_signing_block(open_source(apk, size)), sdk).signer.public_key


def choose_signer(apk: SignedApk, sdk: int, *, allow_v2: bool = False) -> Choice:
    """The signer for platform `sdk`: of v3.1 if that covers it, else of v3, else of v2 if allowed."""
    ids = apk.ids()
    if BlockId.V3_1 in ids and (signers := _signers_for(apk, BlockId.V3_1, sdk)):
        return Choice(Scheme.V3_1, _only(signers, "V3.1"))
    if BlockId.V3 in ids or not allow_v2:
        return Choice(Scheme.V3, _only(_signers_for(apk, BlockId.V3, sdk), "V3"))
    return Choice(Scheme.V2, _only(_signers_for(apk, BlockId.V2, sdk), "V2"))


def _signers_for(apk: SignedApk, block_id: BlockId, sdk: int) -> list[Signer]:
    try:
        block = apk.find(block_id)
    except SchemeNotFound as error:
        raise SchemeNotFound(
            f"The APK is not signed with a scheme accepted here: {error}"
        ) from None
    signers = parse_signers(block, has_sdk_range=block_id != BlockId.V2)
    return [signer for signer in signers if signer.min_sdk <= sdk <= signer.max_sdk]


def _only(signers: list[Signer], scheme: str) -> Signer:
    if len(signers) != 1:
        raise VerificationError(
            f"APK Signature Scheme {scheme} only supports one signer: {len(signers)} signers found."
        )
    return signers[0]


def _check_consistent(signer: Signer, signed_data: SignedData) -> None:
    if (signer.min_sdk, signer.max_sdk) != (signed_data.min_sdk, signed_data.max_sdk):
        raise VerificationError(
            "SDK versions mismatch between signed and unsigned in v3 signer block."
        )
    signature_ids = [record.algorithm_id for record in signer.signatures]
    if signature_ids != [record.algorithm_id for record in signed_data.digests]:
        raise VerificationError(
            "Signature algorithms don't match between digests and signatures records"
        )


def _check_not_stripped(scheme: Scheme, signed_data: SignedData, sdk: int) -> None:
    """A signer may say that a better signature exists; without that one the APK was tampered with."""
    for attribute in signed_data.attributes:
        if attribute.algorithm_id == ATTRIBUTE_STRIPPING_PROTECTION and scheme is Scheme.V2:
            raise VerificationError(
                "The v2 signature says that the APK has a newer one, but there is none"
            )
        if attribute.algorithm_id == ATTRIBUTE_ROTATION_MIN_SDK and scheme is Scheme.V3:
            if len(attribute.value) != 4:
                raise SigningBlockError("signed data: rotation min SDK attribute is not 4 bytes")
            if int.from_bytes(attribute.value, "little") <= sdk:
                raise VerificationError(
                    f"The v3 signature says that v3.1 covers SDK {sdk}, but no v3.1 signer does"
                )


def _digest_for(signed_data: SignedData, algorithm: SignatureAlgorithm) -> bytes:
    for record in signed_data.digests:
        if record.algorithm_id == algorithm:
            return record.value
    raise VerificationError(f"Digest not found for algorithm: {algorithm.name}")


def _check_contents(
    apk: SignedApk, signed_data: SignedData, algorithm: SignatureAlgorithm
) -> bytes:
    expected = _digest_for(signed_data, algorithm)
    computed = content_digest(contents_of(apk), algorithm.content_digest)
    if computed != expected:
        raise VerificationError(
            f"Digest mismatch: computed={computed.hex()} vs expected={expected.hex()}"
        )
    return computed


def _check_certificate(signer: Signer, signed_data: SignedData) -> None:
    if not signed_data.certificates:
        raise VerificationError("No certificates listed")
    if certificate_public_key(signed_data.certificates[0]) != signer.public_key:
        raise VerificationError("Public key mismatch between certificate and signature record")
