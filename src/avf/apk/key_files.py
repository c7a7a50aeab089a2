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

from avf.apk.errors import SigningError

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey

_PEM = b"-----BEGIN "


def load_private_key(data: bytes, password: Callable[[], bytes] | None) -> PrivateKey:
    """A private key in PEM or DER; `password` is called if it is encrypted. SigningError if it cannot be read."""
    load = load_pem_private_key if _PEM in data else load_der_private_key
    try:
        try:
            private = load(data, None)
        except TypeError:
            if password is None:
                raise SigningError("the signing key is encrypted: it needs a password") from None
            private = load(data, password())
    except UnsupportedAlgorithm as error:
        raise SigningError(f"cannot read the signing key: {error}") from None
    except (ValueError, TypeError) as error:
        what = "PEM and no DER" if _PEM not in data else f"usable PEM ({error})"
        raise SigningError(f"cannot read the signing key: it is no {what}") from None
    return check_kind(private)


def check_kind(private: object) -> PrivateKey:
    """`private`, if it is of a kind that signs APKs; SigningError if not."""
    if not isinstance(private, PrivateKey):
        raise SigningError("the signing key is neither RSA nor EC nor DSA")
    return private


def load_certificates(data: bytes) -> list[x509.Certificate]:
    """The certificates in PEM, at least one, or the one in DER; SigningError if they cannot be read."""
    try:
        if _PEM in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError as error:
        raise SigningError(f"cannot read the certificate: {error}") from None
