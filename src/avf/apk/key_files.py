"""Private keys and certificates in PEM and DER. Needs `cryptography`."""

from collections.abc import Callable
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs7 import (
    load_der_pkcs7_certificates,
    load_pem_pkcs7_certificates,
)

from avf.apk.crypto.spki import OID, SEQUENCE, BadDer, Der, der
from avf.apk.errors import SigningError

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey

_PEM = b"-----BEGIN "
_PEM_PKCS7 = b"-----BEGIN PKCS7"
_SEQUENCE = b"\x30"
_MAX_CERTIFICATES = 64


def load_private_key(data: bytes, password: Callable[[], bytes] | None) -> PrivateKey:
    """A private key in PEM or DER; `password` is called if it is encrypted. SigningError if it cannot be read."""
    load = load_pem_private_key if _PEM in data else load_der_private_key
    secret: bytes | None = None
    try:
        try:
            private = load(data, None)
        except TypeError:
            if password is None:
                raise SigningError("the signing key is encrypted: it needs a password") from None
            secret = password()
            private = load(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningError(f"cannot read the signing key: {_reason(data, secret, error)}") from None
    return check_kind(private)


def _reason(data: bytes, secret: bytes | None, error: Exception) -> str:
    if secret is not None:
        return f"its password is wrong, or it is encrypted in a way that is not known ({error})"
    if _PEM in data:
        return f"it is no usable PEM ({error})"
    if data.startswith(_SEQUENCE):
        return f"it is no PEM and no usable DER ({error})"
    return "it is no PEM and no DER"


def check_kind(private: object) -> PrivateKey:
    """`private`, if it is of a kind that signs APKs; SigningError if not."""
    if not isinstance(private, PrivateKey):
        raise SigningError("the signing key is neither RSA nor EC nor DSA")
    return private


def load_certificates(data: bytes, key: PrivateKey | None = None) -> list[x509.Certificate]:
    """At least one certificate, in PEM, in DER one behind the other, or in PKCS #7 (of either).

    Those of PKCS #7 have no order: that of `key` comes first. SigningError if they cannot be read.
    """
    pkcs7 = _PEM_PKCS7 in data or _is_pkcs7(data)
    try:
        if pkcs7:
            load = load_pem_pkcs7_certificates if _PEM in data else load_der_pkcs7_certificates
            found = load(data)
        elif _PEM in data:
            found = x509.load_pem_x509_certificates(data)
        else:
            found = [x509.load_der_x509_certificate(item) for item in _elements(data)]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningError(f"cannot read the certificate: {error}") from None
    if not found:
        raise SigningError("cannot read the certificate: there is none")
    if pkcs7 and key is not None:
        found.sort(key=lambda item: not is_of(item, key))
    return found


def is_of(certificate: x509.Certificate, key: PrivateKey) -> bool:
    """Does a certificate hold the public half of `key`? SigningError if its key cannot be read."""
    try:
        return certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningError(f"cannot read the certificate's key: {error}") from None


def _is_pkcs7(data: bytes) -> bool:
    """A ContentInfo begins with an object identifier, a certificate with a sequence."""
    try:
        return Der(data).inner(SEQUENCE).has(OID)
    except BadDer:
        return False


def _elements(data: bytes) -> list[bytes]:
    """The elements that lie one behind the other; all of it as one where that is not so."""
    reader, found = Der(data), []
    try:
        while not reader.done:
            found.append(der(*reader.element()))
            if len(found) > _MAX_CERTIFICATES:
                raise SigningError(f"the file has more than {_MAX_CERTIFICATES} certificates")
    except BadDer:
        return [data]
    return found
