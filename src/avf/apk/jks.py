"""Java's own key stores, JKS and JCEKS, read only: private keys with their certificates.

    u32 magic, u32 version (1 or 2), u32 count of entries, then SHA-1(password, "Mighty Aphrodite", all before)
    entry:       u32 kind (1 private key, 2 certificate), string alias, u64 time, then what its kind says:
      1          u32 length and that many bytes of EncryptedPrivateKeyInfo, u32 count of certificates, these
      2          a certificate
    certificate: string type (version 2 only), u32 length and that many bytes
    string:      u16 length and that many bytes; numbers are big-endian

Sources: sun.security.provider.JavaKeyStore and KeyProtector, com.sun.crypto.provider.JceKeyStore and KeyProtector, of
OpenJDK. The password counts as UTF-16 (big-endian), in JCEKS entries as ASCII.
"""

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.padding import PKCS7

from avf.apk.crypto.spki import OCTET_STRING, OID, SEQUENCE, BadDer, Der
from avf.apk.errors import SigningError

MAGICS = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
"""Of JKS and of JCEKS."""
_PRIVATE_KEY, _CERTIFICATE = 1, 2
_SALT = b"Mighty Aphrodite"
_DIGEST_SIZE = 20
_MAX_ENTRIES = 4096
_MAX_CHAIN = 64
_JKS = bytes.fromhex("2b060104012a02110101")
_JCEKS = bytes.fromhex("2b060104012a021301")
_MAX_ITERATIONS = 5_000_000


class JavaKey(NamedTuple):
    """A private key as it lies in a store."""

    encrypted: bytes
    """EncryptedPrivateKeyInfo, DER."""
    certificates: tuple[bytes, ...]
    """X.509, DER; the key's own first."""


def read_store(data: bytes, password: str) -> dict[str, JavaKey]:
    """The private keys by alias. SigningError if the store is broken or the password is not its own."""
    body, digest = data[:-_DIGEST_SIZE], data[-_DIGEST_SIZE:]
    found = dict(_entries(_Reader(body)))
    wanted = hashlib.sha1(_wide(password) + _SALT + body, usedforsecurity=False).digest()
    if not hmac.compare_digest(wanted, digest):
        raise SigningError("the password of the key store is wrong, or the store was changed")
    return found


def decrypt(key: JavaKey, password: str) -> bytes:
    """The private key as PKCS #8, DER. SigningError if the password is not the key's."""
    try:
        info = Der(key.encrypted).inner(SEQUENCE)
        algorithm = info.inner(SEQUENCE)
        kind, data = algorithm.take(OID), info.take(OCTET_STRING)
        if kind == _JKS:
            return _decrypt_jks(data, _wide(password))
        if kind == _JCEKS:
            parameters = algorithm.inner(SEQUENCE)
            salt, iterations = parameters.take(OCTET_STRING), parameters.unsigned()
            return _decrypt_jceks(data, password, salt, iterations)
    except BadDer as error:
        raise SigningError(f"the key store is broken: its private key: {error}") from None
    raise SigningError("the private key in the key store is encrypted in an unknown way")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def done(self) -> bool:
        return self._position == len(self._data)

    def take(self, size: int) -> bytes:
        start, end = self._position, self._position + size
        if end > len(self._data):
            raise SigningError(f"the key store is broken: it ends within byte {start} to {end}")
        self._position = end
        return self._data[start:end]

    def number(self, size: int = 4) -> int:
        return int.from_bytes(self.take(size), "big")

    def string(self) -> str:
        return self.take(self.number(2)).decode("utf-8", "replace")


def _entries(reader: _Reader) -> Iterator[tuple[str, JavaKey]]:
    reader.take(4)
    version, count = reader.number(), reader.number()
    if version not in (1, 2):
        raise SigningError(f"the key store has version {version}, only 1 and 2 are known")
    if count > _MAX_ENTRIES:
        raise SigningError(f"the key store has more than {_MAX_ENTRIES} entries")
    for _ in range(count):
        kind, alias, _ = reader.number(), reader.string(), reader.number(8)
        if kind == _PRIVATE_KEY:
            encrypted = reader.take(reader.number())
            yield alias, JavaKey(encrypted, tuple(_chain(reader, version)))
        elif kind == _CERTIFICATE:
            _certificate(reader, version)
        else:
            raise SigningError(
                f"the key store has {alias!r}, which is neither a private key nor a certificate"
            )
    if not reader.done:
        raise SigningError("the key store is broken: it is longer than its entries")


def _chain(reader: _Reader, version: int) -> Iterator[bytes]:
    count = reader.number()
    if count > _MAX_CHAIN:
        raise SigningError(f"the key store has a chain of more than {_MAX_CHAIN} certificates")
    for _ in range(count):
        yield _certificate(reader, version)


def _certificate(reader: _Reader, version: int) -> bytes:
    if version == 2 and (kind := reader.string()) != "X.509":
        raise SigningError(f"the key store has a certificate of type {kind!r}, not X.509")
    return reader.take(reader.number())


def _wide(password: str) -> bytes:
    return password.encode("utf-16-be")


def _decrypt_jks(data: bytes, password: bytes) -> bytes:
    """The data are a salt, the key under a stream of digests, and a digest of the key."""
    block, end = data[:_DIGEST_SIZE], len(data) - _DIGEST_SIZE
    stream = bytearray()
    while len(stream) < end - _DIGEST_SIZE:
        block = hashlib.sha1(password + block, usedforsecurity=False).digest()
        stream += block
    plain = bytes(a ^ b for a, b in zip(data[_DIGEST_SIZE:end], stream, strict=False))
    wanted = hashlib.sha1(password + plain, usedforsecurity=False).digest()
    if not hmac.compare_digest(wanted, data[end:]):
        raise SigningError("the password of the private key is wrong")
    return plain


def _decrypt_jceks(data: bytes, password: str, salt: bytes, iterations: int) -> bytes:
    """Triple DES with a key and an initialization vector that MD5 derives from each half of the salt."""
    if len(salt) != 8 or not 1 <= iterations <= _MAX_ITERATIONS or not data or len(data) % 8:
        raise SigningError("the key store is broken: its private key has bad parameters")
    derived = b"".join(_derive(half, password, iterations) for half in (salt[:4], salt[4:]))
    cipher = Cipher(_triple_des()(derived[:24]), modes.CBC(derived[24:])).decryptor()
    unpadder = PKCS7(64).unpadder()
    try:
        return unpadder.update(cipher.update(data) + cipher.finalize()) + unpadder.finalize()
    except ValueError:
        raise SigningError("the password of the private key is wrong") from None


def _triple_des() -> Any:
    """Where the library keeps it has changed."""
    try:
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    except ImportError:
        from cryptography.hazmat.primitives.ciphers.algorithms import TripleDES
    return TripleDES


def _derive(half: bytes, password: str, iterations: int) -> bytes:
    characters = password.encode("ascii", "replace")
    for _ in range(iterations):
        half = hashlib.md5(half + characters, usedforsecurity=False).digest()
    return half
