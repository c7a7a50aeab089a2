"""Key stores: PKCS #12 and Java's JKS and JCEKS, told apart by their contents. Needs `cryptography`."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PKCS12KeyAndCertificates,
    load_pkcs12,
)

from avf.apk import jks, pkcs12
from avf.apk.errors import SigningError
from avf.apk.key_files import PrivateKey, check_kind, load_certificates, load_private_key

_T = TypeVar("_T")


class StoredKey(NamedTuple):
    """A private key, its certificate, and the certificates of its issuers."""

    key: PrivateKey
    certificate: x509.Certificate
    chain: list[x509.Certificate]


def load_key_store(
    store: bytes,
    password: str,
    *,
    alias: str | None = None,
    key_password: Callable[[], str] | None = None,
) -> StoredKey:
    """The key called `alias`, or the only one. SigningError if there is none, or a password is wrong.

    `key_password` is called for a key that the password of the store does not open.
    """
    if store.startswith(jks.MAGICS):
        return _from_jks(store, password, alias, key_password)
    return _from_pkcs12(store, password, alias)


def _from_jks(
    store: bytes, password: str, alias: str | None, key_password: Callable[[], str] | None
) -> StoredKey:
    keys = jks.read_store(store, password)
    found = _chosen(list(keys.items()), alias)
    try:
        plain = jks.decrypt(found, password)
    except SigningError:
        if key_password is None:
            raise
        plain = jks.decrypt(found, key_password())
    chain = [item for data in found.certificates for item in load_certificates(data)]
    if not chain:
        raise SigningError("the key store holds no certificate of the private key")
    return StoredKey(load_private_key(plain, None), chain[0], chain[1:])


def _from_pkcs12(store: bytes, password: str, alias: str | None) -> StoredKey:
    loaded = _load(store, password)
    choices = pkcs12.keys_in(store)
    named = [(item.alias, item.store) for item in choices] or [(_friendly_name(loaded), store)]
    chosen = _chosen(named, alias)
    if len(choices) > 1:
        loaded = _load(chosen, password)
    if loaded.key is None or loaded.cert is None:
        raise SigningError("the key store holds no private key with a certificate")
    own, key = loaded.cert.certificate, check_kind(loaded.key)
    return StoredKey(
        key, own, _issuers(own, [item.certificate for item in loaded.additional_certs])
    )


def _friendly_name(loaded: PKCS12KeyAndCertificates) -> str:
    name = loaded.cert.friendly_name if loaded.cert else None
    return (name or b"").decode("utf-8", "replace")


def _load(store: bytes, password: str) -> PKCS12KeyAndCertificates:
    try:
        return load_pkcs12(store, password.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningError(f"cannot read the key store: {error}") from None


def _chosen(keys: list[tuple[str, _T]], alias: str | None) -> _T:
    """What is called `alias`, in whatever case, as Java has it."""
    if not keys:
        raise SigningError("the key store holds no private key with a certificate")
    names = " and ".join(repr(name) for name, _ in keys)
    if alias is None:
        if len(keys) > 1:
            raise SigningError(f"the key store holds several keys, {names}: name one")
        return keys[0][1]
    for name, key in keys:
        if name.casefold() == alias.casefold():
            return key
    raise SigningError(f"the key store holds no key {alias!r}, but {names}")


def _issuers(own: x509.Certificate, others: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """The certificates that lead from `own` to its root, in this order."""
    chain: list[x509.Certificate] = []
    last, left = own, list(others)
    while last.issuer != last.subject:
        found = next((item for item in left if _has_issued(item, last)), None)
        if found is None:
            break
        left.remove(found)
        chain.append(found)
        last = found
    return chain


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
