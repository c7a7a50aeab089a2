"""The signature block of a v1 signature: PKCS #7 SignedData (RFC 2315, RFC 5652) as far as Android reads it."""

from typing import NamedTuple

from avf.apk.v1.ber import (
    CONTEXT,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    BadBer,
    Fields,
    Value,
    first,
    values,
)

_SIGNED_DATA = "1.2.840.113549.1.7.2"
_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_MAX_SIGNERS = 64


class SignerInfo(NamedTuple):
    """One signature, and what made it."""

    issuer: bytes | None
    """Name, DER; None where the certificate is named in another way, which Android does not take."""
    serial: int
    digest_oid: str
    signature_oid: str
    attributes: bytes | None
    """The signed attributes as they are encoded, None if there are none."""
    signature: bytes


class SignedData(NamedTuple):
    """What a signature block holds, nothing in it proved."""

    content_type: str
    certificates: tuple[bytes, ...]
    signers: tuple[SignerInfo, ...]


class SignedAttributes(NamedTuple):
    """What a signature covers in place of the file itself; None is for an attribute that is not there."""

    content_type: str | None
    message_digest: bytes | None


def parse_signed_data(data: bytes) -> SignedData:
    """BadBer if it is not that."""
    outer = Fields(first(data).expect(SEQUENCE).contents)
    kind = outer.take(OID).oid
    if kind != _SIGNED_DATA:
        raise BadBer(f"the content type is {kind}, not SignedData")
    fields = Fields(first(outer.take(0, CONTEXT).contents).expect(SEQUENCE).contents)
    _check_int(fields.take(INTEGER))
    for algorithm in values(fields.take(SET).contents):
        _algorithm(algorithm.expect(SEQUENCE))
    content_type = Fields(fields.take(SEQUENCE).contents).take(OID).oid
    certificates = fields.optional(0)
    if certificates is None:
        raise BadBer("there is no certificate")
    fields.optional(1)
    infos = list(values(fields.take(SET).contents))
    if len(infos) > _MAX_SIGNERS:
        raise BadBer(f"there are more than {_MAX_SIGNERS} signers")
    return SignedData(
        content_type,
        tuple([item.encoded for item in values(certificates.contents)]),
        tuple([_signer_info(info.expect(SEQUENCE)) for info in infos]),
    )


def _signer_info(info: Value) -> SignerInfo:
    fields = Fields(info.contents)
    _check_int(fields.take(INTEGER))
    issuer, serial = _signer_id(fields.take())
    digest_oid = _algorithm(fields.take(SEQUENCE))
    attributes = fields.optional(0)
    signature_oid = _algorithm(fields.take(SEQUENCE))
    signature = fields.take(OCTET_STRING).contents
    unsigned = fields.optional(1)
    if unsigned is not None:
        _attributes(unsigned.contents)
    encoded = None if attributes is None else attributes.encoded
    return SignerInfo(issuer, serial, digest_oid, signature_oid, encoded, signature)


def _signer_id(value: Value) -> tuple[bytes | None, int]:
    if (value.tag_class, value.number) == (CONTEXT, 0):
        return None, 0
    fields = Fields(value.expect(SEQUENCE).contents)
    return fields.take(SEQUENCE).encoded, fields.take(INTEGER).integer


def _algorithm(value: Value) -> str:
    return Fields(value.contents).take(OID).oid


def _check_int(value: Value) -> None:
    if not -(1 << 31) <= value.integer < 1 << 31:
        raise BadBer("a version is too large")


def parse_attributes(encoded: bytes) -> SignedAttributes:
    """The two attributes that count, of those in SignerInfo.attributes; BadBer if they are broken."""
    found = _attributes(first(encoded).contents)
    content_type = _single(found, _CONTENT_TYPE)
    digest = _single(found, _MESSAGE_DIGEST)
    return SignedAttributes(
        None if content_type is None else content_type.oid,
        None if digest is None else digest.expect(OCTET_STRING).contents,
    )


def _attributes(contents: bytes) -> dict[str, list[Value]]:
    found: dict[str, list[Value]] = {}
    for value in values(contents):
        fields = Fields(value.expect(SEQUENCE).contents)
        kind = fields.take(OID).oid
        if kind in found:
            raise BadBer(f"attribute {kind} occurs twice")
        found[kind] = list(values(fields.take(SET).contents))
    return found


def _single(found: dict[str, list[Value]], kind: str) -> Value | None:
    items = found.get(kind, [])
    if len(items) > 1:
        raise BadBer(f"attribute {kind} has several values")
    return items[0] if items else None


def signed_form(attributes: bytes) -> bytes:
    """The bytes that were signed: the attributes with the tag of a SET, else as they are encoded."""
    return b"\x31" + attributes[1:]
