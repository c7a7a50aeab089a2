"""The two things APK verification asks of cryptography, over whichever library is there.

Backends: the `cryptography` package; else, as in the guest, Python's integers for RSA, and OpenSSL 3's libcrypto
through ctypes for other keys.
"""

from typing import Protocol

from avf.apk.algorithms import KeyType
from avf.apk.crypto.spki import check_type, read_public_key
from avf.apk.crypto.x509 import certificate_public_key

__all__ = [
    "Algorithm",
    "Backend",
    "backend",
    "certificate_public_key",
    "read_public_key",
    "verify_signature",
]

BAD_SIGNATURE = "Signature is invalid."


class Algorithm(Protocol):
    """How a signature is made; a SignatureAlgorithm is one."""

    @property
    def name(self) -> str: ...

    @property
    def key_type(self) -> KeyType: ...

    @property
    def hash_name(self) -> str:
        """Of the hash that is signed, as `hashlib` calls it: md5, sha1, sha224, sha256, sha384 or sha512."""

    @property
    def pss(self) -> bool:
        """RSA-PSS (salt as long as the hash) rather than PKCS#1 v1.5."""


class Backend(Protocol):
    """A module that can verify signatures with keys that `read_public_key` made."""

    def verify_signature(
        self, algorithm: Algorithm, public_key: bytes, data: bytes, signature: bytes
    ) -> None: ...


def backend() -> Backend:
    """The backend in use: `cryptography` where it can be imported, else libcrypto."""
    try:
        from avf.apk.crypto import pyca
    except ImportError:
        from avf.apk.crypto import libcrypto

        return libcrypto
    return pyca


def verify_signature(
    algorithm: Algorithm,
    public_key: bytes,
    data: bytes,
    signature: bytes,
    *,
    library: Backend | None = None,
) -> None:
    """Check `signature` over `data` with a SubjectPublicKeyInfo, by `library` or the backend in use.

    PublicKeyError if the key has another type or is of a kind not accepted (RSA of 1024 to 16384 bits; DSA of 1024,
    2048, 3072 or 4096; NIST P-256, P-384 or P-521); SignatureInvalid if the signature is wrong.
    """
    key = read_public_key(public_key)
    check_type(key, algorithm.key_type)
    (library or backend()).verify_signature(algorithm, key.der, data, signature)
