"""Just enough of X.509 (RFC 5280, section 4.1) to find the public key in a certificate, byte for byte.

Android compares this key with the one in the signature record and trusts nothing else in the certificate, so nothing
else is looked at. Certificates that strict parsers refuse (negative serial numbers, odd names) are accepted, as there;
bytes that follow the certificate are ignored.
"""

from avf.apk.errors import CertificateError

_SEQUENCE = 0x30
_INTEGER = 0x02
_VERSION = 0xA0
_FIELDS = (
    ("serial number", _INTEGER),
    ("signature algorithm", _SEQUENCE),
    ("issuer", _SEQUENCE),
    ("validity", _SEQUENCE),
    ("subject", _SEQUENCE),
    ("public key", _SEQUENCE),
)


def certificate_public_key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo (DER) of a DER certificate, as it stands there."""
    start, end = _fields(certificate)[-1]
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
    if end - start < 2 or data[start] != tag:
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
