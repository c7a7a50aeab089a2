"""Signature blocks: is a signature file signed, and by whom?"""

import hashlib
from typing import NamedTuple

from avf.apk.algorithms import KeyType
from avf.apk.crypto import read_public_key, verify_signature
from avf.apk.crypto.spki import PublicKey
from avf.apk.errors import (
    CertificateError,
    PublicKeyError,
    SignatureInvalid,
    UnsupportedAlgorithm,
    V1SignatureError,
)
from avf.apk.signers import MAX_SDK
from avf.apk.v1.ber import INTEGER, SEQUENCE, BadBer, Fields, first
from avf.apk.v1.certificates import (
    Certificate,
    Name,
    chain_of,
    parse_certificate,
    parse_name,
)
from avf.apk.v1.mechanisms import HASHES, Mechanism, SdkRange, mechanism, not_in, platforms
from avf.apk.v1.pkcs7 import (
    SignedData,
    SignerInfo,
    parse_attributes,
    parse_signed_data,
    signed_form,
)

_ALL_SIGNERS_SDK = 24
"""Since this SDK any SignerInfo may be the right one; before, only the first one counts."""
_CONTENT_TYPE_SDK = 24
_ATTRIBUTES_SDK = 19
"""Older platforms do not compare the digest in the signed attributes with the signature file."""


class BlockSigner(NamedTuple):
    """Who signed a signature file, and how."""

    certificates: tuple[bytes, ...]
    """DER; the signer's own first, then its issuers as far as they are there."""
    public_key: bytes
    """SubjectPublicKeyInfo, DER."""
    mechanism: Mechanism


def verify_block(block: bytes, signature_file: bytes, sdks: SdkRange, name: str) -> BlockSigner:
    """The first signer in `block`, a file called `name`, whose signature is right.

    Raises V1SignatureError if the block is broken, UnsupportedAlgorithm if a platform does not take an algorithm,
    CertificateError, PublicKeyError, or SignatureInvalid if nobody in it signed the file.
    """
    try:
        return _verify(block, signature_file, sdks)
    except BadBer as error:
        raise V1SignatureError(f"{name}: {error}") from None
    except (CertificateError, PublicKeyError, UnsupportedAlgorithm, SignatureInvalid) as error:
        error.args = (f"{name}: {error}",)
        raise


def _verify(block: bytes, signature_file: bytes, sdks: SdkRange) -> BlockSigner:
    data = parse_signed_data(block)
    if not data.signers:
        raise SignatureInvalid("it holds no signature")
    certificates = [parse_certificate(item) for item in data.certificates]
    tried = data.signers if sdks[0] >= _ALL_SIGNERS_SDK else data.signers[:1]
    found = [_verify_signer(data, certificates, info, signature_file, sdks) for info in tried]
    good = next((signer for signer in found if signer), None)
    if good is None:
        raise SignatureInvalid("its signature is not of the signature file")
    return good


def _verify_signer(
    data: SignedData,
    certificates: list[Certificate],
    info: SignerInfo,
    signature_file: bytes,
    sdks: SdkRange,
) -> BlockSigner | None:
    """None if this is not a signature of the file."""
    how = _mechanism(info, sdks)
    own = _own_certificate(certificates, info)
    key = read_public_key(own.public_key)
    signed = signature_file
    if info.attributes is not None:
        if sdks[0] < _ATTRIBUTES_SDK:
            raise UnsupportedAlgorithm(
                f"it has signed attributes, which platforms before SDK {_ATTRIBUTES_SDK} do not check"
            )
        if not _attributes_hold(data, info, info.attributes, signature_file, sdks[1]):
            return None
        signed = signed_form(info.attributes)
    _check_form(key, info.signature)
    try:
        verify_signature(how, key.der, signed, info.signature)
    except SignatureInvalid:
        return None
    chain = chain_of(own, certificates)
    return BlockSigner(tuple([item.encoded for item in chain]), key.der, how)


def _check_form(key: PublicKey, signature: bytes) -> None:
    """SignatureInvalid if this is no signature at all, which ends the search for another one."""
    if key.type is KeyType.RSA:
        well_formed = len(signature) == -(-key.bits // 8)
    else:
        try:
            fields = Fields(first(signature).expect(SEQUENCE).contents)
            well_formed = bool(fields.take(INTEGER) and fields.take(INTEGER))
        except BadBer:
            well_formed = False
    if not well_formed:
        raise SignatureInvalid("it holds a signature that is malformed")


def _mechanism(info: SignerInfo, sdks: SdkRange) -> Mechanism:
    how = mechanism(info.digest_oid, info.signature_oid)
    refused = not_in(sdks, platforms(info.digest_oid, info.signature_oid))
    if how is None or refused:
        known = f"{HASHES.get(info.digest_oid, info.digest_oid).upper()} digest"
        signature = how.name if how else f"signature algorithm {info.signature_oid}"
        where = ", ".join(_range_text(*item) for item in refused) or "all"
        raise UnsupportedAlgorithm(f"{known}, {signature}: not accepted by SDK {where}")
    return how


def _range_text(low: int, high: int) -> str:
    if high == MAX_SDK:
        return f"{low} and later"
    return str(low) if low == high else f"{low} to {high}"


def _own_certificate(certificates: list[Certificate], info: SignerInfo) -> Certificate:
    """The one that the signature names, which must be fit for it."""
    issuer = parse_name(info.issuer) if info.issuer else None
    own = next((item for item in certificates if _is_named(item, issuer, info)), None)
    if own is None:
        raise CertificateError("it does not hold the certificate of its signer")
    if own.unknown_critical:
        raise CertificateError(f"Certificate: unknown critical extension {own.unknown_critical}")
    if not own.may_sign:
        raise CertificateError("Certificate: its key may not be used for signatures (keyUsage)")
    return own


def _is_named(certificate: Certificate, issuer: Name | None, info: SignerInfo) -> bool:
    return certificate.serial == info.serial and certificate.issuer == issuer


def _attributes_hold(
    data: SignedData, info: SignerInfo, encoded: bytes, signature_file: bytes, max_sdk: int
) -> bool:
    """Are the signed attributes those of this signature file?"""
    attributes = parse_attributes(encoded)
    if max_sdk >= _CONTENT_TYPE_SDK:
        if attributes.content_type is None:
            raise BadBer("the signed attributes have no content type")
        if attributes.content_type != data.content_type:
            return False
    if attributes.message_digest is None:
        raise BadBer("the signed attributes have no digest")
    name = HASHES[info.digest_oid]
    digest = hashlib.new(name, signature_file, usedforsecurity=False).digest()
    return digest == attributes.message_digest
