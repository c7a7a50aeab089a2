"""Distinguished names of certificates as text (RFC 4514, in its order: the most specific part first)."""

from avf.apk.crypto.spki import OID, SEQUENCE, BadDer, Der
from avf.apk.crypto.x509 import certificate_subject_name
from avf.apk.errors import CertificateError

_SET = 0x31
_UTF16, _UTF32 = 0x1E, 0x1C
_LATIN = (0x13, 0x14, 0x16, 0x1A)
"""PrintableString, TeletexString, IA5String, VisibleString."""
_UTF8 = 0x0C
_ESCAPED = ',+"\\<>;='
_KEYWORDS = {
    "550403": "CN",
    "550404": "SURNAME",
    "550405": "SERIALNUMBER",
    "550406": "C",
    "550407": "L",
    "550408": "ST",
    "550409": "STREET",
    "55040a": "O",
    "55040b": "OU",
    "55040c": "T",
    "55042a": "GIVENNAME",
    "2a864886f70d010901": "EMAILADDRESS",
    "0992268993f22c640119": "DC",
    "0992268993f22c640101": "UID",
}


def certificate_subject(certificate: bytes) -> str:
    """The subject's distinguished name, such as "CN=release, O=Example"; CertificateError if it is broken."""
    try:
        return _name(Der(certificate_subject_name(certificate)).inner(SEQUENCE))
    except BadDer as error:
        raise CertificateError(f"Certificate: broken subject: {error}") from None


def _name(parts: Der) -> str:
    found = []
    while not parts.done:
        values = parts.inner(_SET)
        texts = []
        while not values.done:
            texts.append(_value(values.inner(SEQUENCE)))
        found.append(" + ".join(texts))
    return ", ".join(reversed(found))


def _value(pair: Der) -> str:
    oid = pair.take(OID)
    tag, data = pair.element()
    keyword = _KEYWORDS.get(oid.hex()) or f"OID.{_dotted(oid)}"
    return f"{keyword}={_text(tag, data)}"


def _text(tag: int, data: bytes) -> str:
    encodings = {_UTF8: "utf-8", _UTF16: "utf-16-be", _UTF32: "utf-32-be"}
    encoding = encodings.get(tag) or ("latin-1" if tag in _LATIN else None)
    if encoding is None:
        return f"#{tag:02x}:{data.hex()}"
    text = data.decode(encoding, "replace")
    return "".join([f"\\{char}" if char in _ESCAPED else char for char in text])


def _dotted(oid: bytes) -> str:
    numbers, value = [], 0
    for byte in oid:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first, *rest = numbers or [0]
    top = min(first // 40, 2)
    return ".".join(map(str, [top, first - 40 * top, *rest]))
