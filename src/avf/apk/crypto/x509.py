"""Just enough of X.509 (RFC 5280, section 4.1) to find the public key in a certificate, byte for byte.

Android compares this key with the one in the signature record and trusts nothing else in the certificate, but its
parser (`d2i_X509`) must be able to read all of it. So every field is looked for, and what is inside names, times and
extensions is read as far as that parser reads it. Certificates that stricter ones refuse (negative serial numbers,
odd times, broken extensions) are accepted, as there; bytes that follow the certificate are ignored.
"""

from itertools import pairwise

from avf.apk.crypto.spki import BIT_STRING, INTEGER, OID, SEQUENCE, BadDer, Der
from avf.apk.errors import CertificateError

_SEQUENCE = 0x30
_CONSTRUCTED = 0x20
_INTEGER = 0x02
_VERSION = 0xA0
_UNIQUE_IDS = (0x81, 0x82)
_EXTENSIONS = 0xA3
_TIMES = (0x17, 0x18)
_SET, _BOOLEAN, _OCTETS = 0x31, 1, 4
_ENUMERATED = 0x0A
_SIZES = {1: 1, 5: 0}
_UNITS = {0x1C: 4, 0x1E: 2}
_IN_NAMES = {3, *range(0x07, 0x10), 0x12, 0x13, 0x14, 0x16, 0x1C, 0x1D, 0x1E, 0x30}
_ENCODINGS = {0x0C: "utf-8", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
_FIELDS = (
    ("serial number", _INTEGER),
    ("signature algorithm", _SEQUENCE),
    ("issuer", _SEQUENCE),
    ("validity", _SEQUENCE),
    ("subject", _SEQUENCE),
    ("public key", _SEQUENCE),
)
_LISTS = ("issuer", "subject")
"""The parser does not look at the bit that says that these hold elements, nor at that of any SEQUENCE OF or SET OF."""


def certificate_public_key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo (DER) of a DER certificate, as it stands there; CertificateError if it is broken."""
    start, end = _fields(certificate)[-1]
    _check(certificate)
    return certificate[start:end]


def certificate_subject_name(certificate: bytes) -> bytes:
    """The Name (DER) of the subject of a DER certificate, as it stands there."""
    start, end = _fields(certificate)[-2]
    return certificate[start:end]


def _fields(certificate: bytes) -> list[tuple[int, int]]:
    """Where each of the fields begins and ends, their tags and lengths included."""
    start, end = _element(certificate, 0, len(certificate), _SEQUENCE, "certificate")
    start, end = _element(certificate, start, end, _SEQUENCE, "to-be-signed part")
    if start < end and certificate[start] == _VERSION:
        _, start = _element(certificate, start, end, _VERSION, "version")
    found = []
    for field, tag in _FIELDS:
        _, after = _element(certificate, start, end, tag, field)
        found.append((start, after))
        start = after
    return found


def _element(data: bytes, start: int, end: int, tag: int, field: str) -> tuple[int, int]:
    """(start, end) of the contents of the DER element at `start`, which must have `tag` and end by `end`."""
    is_list = field in _LISTS
    if end - start < 2 or data[start] not in (tag, tag ^ _CONSTRUCTED if is_list else tag):
        raise CertificateError(f"Certificate: no {field} at byte {start}")
    length = data[start + 1]
    body = start + 2
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or body + count > end:
            raise CertificateError(f"Certificate: bad length of {field} at byte {start}")
        length = int.from_bytes(data[body : body + count], "big")
        body += count
    if length > end - body:
        raise CertificateError(f"Certificate: {field} at byte {start} is cut short")
    return body, body + length


def _check(certificate: bytes) -> None:
    """CertificateError unless everything is where it belongs."""
    try:
        outer = Der(certificate).inner(SEQUENCE)
        _check_tbs(outer.inner(SEQUENCE))
        _check_algorithm(outer)
        _check_bits(outer.take(BIT_STRING))
        outer.end()
    except BadDer as error:
        raise CertificateError(f"Certificate: {error}") from None


def _list(fields: Der, tag: int) -> Der:
    """What a SEQUENCE OF or a SET OF holds."""
    return fields.inner(tag if fields.has(tag) else tag ^ _CONSTRUCTED)


def _check_tbs(fields: Der) -> None:
    if fields.has(_VERSION):
        version = fields.inner(_VERSION)
        _check_integer(version.take(INTEGER))
        version.end()
    _check_integer(fields.take(INTEGER))
    _check_algorithm(fields)
    _check_name(_list(fields, SEQUENCE))
    validity = fields.inner(SEQUENCE)
    for _ in range(2):
        validity.take(_TIMES[1] if validity.has(_TIMES[1]) else _TIMES[0])
    validity.end()
    _check_name(_list(fields, SEQUENCE))
    key = fields.inner(SEQUENCE)
    _check_algorithm(key)
    _check_bits(key.take(BIT_STRING))
    key.end()
    for tag in _UNIQUE_IDS:
        if fields.has(tag):
            _check_bits(fields.take(tag))
    if fields.has(_EXTENSIONS):
        wrapped = fields.inner(_EXTENSIONS)
        _check_extensions(_list(wrapped, SEQUENCE))
        wrapped.end()
    fields.end()


def _check_extensions(extensions: Der) -> None:
    while not extensions.done:
        extension = extensions.inner(SEQUENCE)
        _check_oid(extension.take(OID))
        if extension.has(_BOOLEAN) and len(extension.take(_BOOLEAN)) != 1:
            raise BadDer("a boolean has not one byte")
        extension.take(_OCTETS)
        extension.end()


def _check_name(name: Der) -> None:
    while not name.done:
        attributes = _list(name, _SET)
        while not attributes.done:
            attribute = attributes.inner(SEQUENCE)
            _check_oid(attribute.take(OID))
            tag, value = attribute.element()
            attribute.end()
            _check_value(tag, value)
            _check_text(tag, value)


def _check_value(tag: int, value: bytes) -> None:
    """What a value of its type must be, as far as the parser looks."""
    if tag in (0x00, 0x20) or tag & 0x1F == 0x1F:
        raise BadDer("a value has no type")
    is_list = tag | _CONSTRUCTED in (SEQUENCE, _SET)
    if tag < 0x40 and is_list != bool(tag & _CONSTRUCTED):
        raise BadDer("a value that holds no elements says that it does, or the reverse")
    if tag == OID:
        _check_oid(value)
    elif tag in (INTEGER, _ENUMERATED):
        _check_integer(value)
    elif tag == BIT_STRING:
        _check_bits(value)
    elif len(value) != _SIZES.get(tag, len(value)) or len(value) % _UNITS.get(tag, 1):
        raise BadDer(f"a value of type {tag} has a wrong length")


def _check_text(tag: int, value: bytes) -> None:
    """As far as it must be converted to compare names."""
    if tag not in _IN_NAMES:
        raise BadDer(f"a name has a value of type {tag}")
    encoding = _ENCODINGS.get(tag)
    try:
        value.decode(encoding or "latin-1")
    except UnicodeDecodeError:
        raise BadDer(f"a name is not in {encoding}") from None


def _check_algorithm(fields: Der) -> None:
    algorithm = fields.inner(SEQUENCE)
    _check_oid(algorithm.take(OID))
    if not algorithm.done:
        _check_value(*algorithm.element())
    algorithm.end()


def _check_oid(number: bytes) -> None:
    padded = any(pair[0] < 0x80 and pair[1] == 0x80 for pair in pairwise(b"\0" + number))
    if not number or number[-1] >= 0x80 or padded:
        raise BadDer("an object identifier is broken")


def _check_integer(value: bytes) -> None:
    padded = len(value) > 1 and (value[0], value[1] >> 7) in ((0, 0), (0xFF, 1))
    if not value or padded:
        raise BadDer("an integer has no byte, or one too many")


def _check_bits(bits: bytes) -> None:
    if not bits or bits[0] > 7:
        raise BadDer("a bit string does not say how many bits it has")
