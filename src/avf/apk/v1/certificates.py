"""X.509 certificates (RFC 5280, section 4.1) as far as v1 signatures ask: names, serial number, key and what it is for.

Nothing in a certificate is proved; the platform trusts its bytes, not who issued it.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from avf.apk.errors import CertificateError
from avf.apk.v1.ber import (
    BIT_STRING,
    BOOLEAN,
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

_KEY_USAGE = "2.5.29.15"
_SIGNING_BITS = 0xC0
"""digitalSignature and nonRepudiation."""
_KNOWN_EXTENSIONS = {f"2.5.29.{n}" for n in (14, 15, 16, 17, 18, 19, 30, 31, 32, 33, 35, 36, 37)}
_KNOWN_EXTENSIONS |= {"2.5.29.46", "2.5.29.54", "2.16.840.1.113730.1.1"}
_KNOWN_EXTENSIONS |= {"1.3.6.1.5.5.7.1.1", "1.3.6.1.5.5.7.1.11"}
_PRINTABLE, _UTF8 = 19, 12
_DAY = rb"(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
_HOUR = rb"([01]\d|2[0-3])[0-5]\d([0-5]\d)?"
_ZONE = rb"(Z|[+-]([01]\d|2[0-3])[0-5]\d)"
_TIMES = {
    23: re.compile(rb"\d{2}" + _DAY + _HOUR + _ZONE),
    24: re.compile(rb"\d{4}" + _DAY + _HOUR + rb"([.,]\d{1,3})?" + _ZONE),
}
"""UTCTime and GeneralizedTime."""
Name = tuple[tuple[tuple[str, bytes], ...], ...]
"""Relative distinguished names, each of (type, value), in a form in which equal names are the same."""


class Certificate(NamedTuple):
    """A certificate and what stands in it."""

    encoded: bytes
    serial: int
    issuer: Name
    subject: Name
    public_key: bytes
    """SubjectPublicKeyInfo, as it is encoded."""
    may_sign: bool
    """False if it says what its key is for, and signatures are not among that."""
    unknown_critical: str | None
    """An extension that must be understood and is not."""


def parse_certificate(encoded: bytes) -> Certificate:
    """CertificateError if it is none."""
    try:
        return _parse(encoded)
    except BadBer as error:
        raise CertificateError(f"Certificate: {error}") from None


def _parse(encoded: bytes) -> Certificate:
    outer = Fields(first(encoded).expect(SEQUENCE).contents)
    fields = Fields(outer.take(SEQUENCE).contents)
    signed_with = outer.take(SEQUENCE)
    if not outer.take(BIT_STRING).contents:
        raise BadBer("it has no signature")
    outer.end()
    fields.optional(0)
    serial = fields.take(INTEGER).integer
    if fields.take(SEQUENCE) != signed_with:
        raise BadBer("it names two signature algorithms")
    Fields(signed_with.contents).take(OID)
    issuer = parse_name(fields.take(SEQUENCE).encoded)
    _check_validity(fields.take(SEQUENCE))
    subject = parse_name(fields.take(SEQUENCE).encoded)
    public_key = fields.take(SEQUENCE).encoded
    fields.optional(1)
    fields.optional(2)
    extensions = _extensions(fields.optional(3))
    usage = extensions.get(_KEY_USAGE)
    unknown = [kind for kind, (critical, _) in extensions.items() if critical]
    unknown = [kind for kind in unknown if kind not in _KNOWN_EXTENSIONS]
    return Certificate(
        encoded,
        serial,
        issuer,
        subject,
        public_key,
        usage is None or _may_sign(usage[1]),
        unknown[0] if unknown else None,
    )


def issuer_and_serial(encoded: bytes) -> bytes:
    """The two fields that name a certificate, one behind the other, as they are encoded in it."""
    fields = Fields(Fields(first(encoded).contents).take(SEQUENCE).contents)
    fields.optional(0)
    serial = fields.take(INTEGER).encoded
    fields.take(SEQUENCE)
    return fields.take(SEQUENCE).encoded + serial


def _check_validity(value: Value) -> None:
    fields = Fields(value.contents)
    for _ in range(2):
        time = fields.take()
        pattern = _TIMES.get(time.number)
        if pattern is None or not pattern.fullmatch(time.contents):
            raise BadBer(f"a time cannot be read: {time.contents[:20]!r}")


def _extensions(value: Value | None) -> dict[str, tuple[bool, bytes]]:
    """Criticality and value by type."""
    found: dict[str, tuple[bool, bytes]] = {}
    if value is None:
        return found
    for item in values(first(value.contents).expect(SEQUENCE).contents):
        fields = Fields(item.expect(SEQUENCE).contents)
        kind = fields.take(OID).oid
        critical = fields.optional(BOOLEAN, tag_class=0)
        if kind in found:
            raise BadBer(f"extension {kind} occurs twice")
        found[kind] = (
            critical is not None and critical.contents != b"\0",
            fields.take(OCTET_STRING).contents,
        )
    return found


def _may_sign(usage: bytes) -> bool:
    bits = first(usage).expect(BIT_STRING).contents
    return len(bits) > 1 and bool(bits[1] & _SIGNING_BITS)


def parse_name(encoded: bytes) -> Name:
    """BadBer if it is no Name. Case and runs of spaces do not count in printable strings and UTF-8."""
    name = []
    for part in values(first(encoded).expect(SEQUENCE).contents):
        pairs = []
        for item in values(part.expect(SET).contents):
            fields = Fields(item.expect(SEQUENCE).contents)
            pairs.append((fields.take(OID).oid, _comparable(fields.take())))
        name.append(tuple(sorted(pairs)))
    return tuple(name)


def _comparable(value: Value) -> bytes:
    if value.tag_class or value.number not in (_PRINTABLE, _UTF8):
        return value.encoded
    text = unicodedata.normalize("NFKD", value.contents.decode("utf-8", "replace"))
    return b"text " + " ".join(text.casefold().split()).encode("utf-8")


def chain_of(own: Certificate, others: Sequence[Certificate]) -> tuple[Certificate, ...]:
    """`own` and those that lead to its root, as far as they are there."""
    chain = [own]
    left = [item for item in others if item.encoded != own.encoded]
    while chain[-1].subject != chain[-1].issuer:
        issuer = next((item for item in left if item.subject == chain[-1].issuer), None)
        if issuer is None:
            break
        left.remove(issuer)
        chain.append(issuer)
    return tuple(chain)
