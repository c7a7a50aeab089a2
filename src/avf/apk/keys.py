"""Private keys that sign APKs. Needs `cryptography`."""

import datetime
from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from avf.apk.algorithms import KeyType, SignatureAlgorithm
from avf.apk.crypto import Algorithm, certificate_public_key, read_public_key
from avf.apk.errors import CertificateError, PublicKeyError, SigningError
from avf.apk.key_files import PrivateKey, is_of, load_certificates, load_private_key
from avf.apk.key_stores import load_key_store

_LARGE_RSA_BITS = 3072
_LARGE_EC_BITS = 256
_CURVES: dict[str, ec.EllipticCurve] = {
    "ec-p256": ec.SECP256R1(),
    "ec-p384": ec.SECP384R1(),
    "ec-p521": ec.SECP521R1(),
}
_HASHES: dict[str, type[HashAlgorithm]] = {"sha1": SHA1, "sha256": SHA256, "sha512": SHA512}
_RSA_SIZES = {"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}
_DSA_SIZES = {"dsa-1024": 1024, "dsa-2048": 2048, "dsa-3072": 3072}
_YEAR = datetime.timedelta(days=365)


class SigningKey:
    """A private key (RSA, EC or DSA) and the X.509 certificates that APKs signed with it carry."""

    def __init__(
        self, key: PrivateKey, certificate: x509.Certificate, chain: Sequence[x509.Certificate] = ()
    ) -> None:
        self._key = key
        self.certificate = certificate.public_bytes(Encoding.DER)
        """The key's own, DER."""
        self.certificates = (self.certificate, *[_der(issuer) for issuer in chain])
        """The key's own and those of its issuers, DER."""
        self.public_key = key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        """SubjectPublicKeyInfo, DER."""
        if not is_of(certificate, key):
            raise SigningError("the certificate is not of the private key")
        _check_accepted(self.certificate)

    @classmethod
    def generate(cls, kind: str = "ec-p256", *, common_name: str = "AVF payload") -> "SigningKey":
        """A new key with a self-signed certificate; `kind` is ec-p256|p384|p521, rsa-2048|3072|4096 or
        dsa-1024|2048|3072."""
        key: PrivateKey
        if kind in _CURVES:
            key = ec.generate_private_key(_CURVES[kind])
        elif kind in _RSA_SIZES:
            key = rsa.generate_private_key(65537, _RSA_SIZES[kind])
        elif kind in _DSA_SIZES:
            key = dsa.generate_private_key(_DSA_SIZES[kind])
        else:
            kinds = ", ".join(_CURVES | _RSA_SIZES | _DSA_SIZES)
            raise SigningError(f"unknown kind of key {kind!r}: {kinds}")
        return cls(key, _self_signed(key, common_name))

    @classmethod
    def from_pem(
        cls, key: bytes, certificate: bytes, *, password: bytes | None = None
    ) -> "SigningKey":
        """From a PEM private key and a PEM certificate."""
        return cls.load(key, certificate, password=password)

    @classmethod
    def load(cls, key: bytes, certificate: bytes, *, password: bytes | None = None) -> "SigningKey":
        """From a private key and its certificate, each in PEM or DER (PKCS #8, as apksigner takes it).

        PEM may go on with the certificates of the issuers. SigningError if something cannot be read, the key is
        encrypted and no `password` is given, or the certificate is not of the key.
        """
        private = load_private_key(key, None if password is None else lambda: password)
        own, *chain = load_certificates(certificate, private)
        return cls(private, own, chain)

    @classmethod
    def from_key_store(
        cls,
        store: bytes,
        password: str,
        *,
        alias: str | None = None,
        key_password: Callable[[], str] | None = None,
    ) -> "SigningKey":
        """From a PKCS #12, JKS or JCEKS key store, with the certificates of its issuers.

        `alias` names one of several keys; `key_password` is called for a key that has a password of its own.
        SigningError if a password is wrong, or the store holds no such key.
        """
        return cls(*load_key_store(store, password, alias=alias, key_password=key_password))

    def to_pem(self) -> tuple[bytes, bytes]:
        """(private key as unencrypted PKCS #8, certificate)."""
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key, x509.load_der_x509_certificate(self.certificate).public_bytes(Encoding.PEM)

    def to_pkcs12(self, password: str, *, alias: str = "payload") -> bytes:
        """A key store with the key and its certificates, encrypted with `password`. SigningError if that is empty."""
        if not password:
            raise SigningError("a key store needs a password")
        chain = [x509.load_der_x509_certificate(each) for each in self.certificates]
        return serialize_key_and_certificates(
            alias.encode(),
            self._key,
            chain[0],
            chain[1:] or None,
            BestAvailableEncryption(password.encode()),
        )

    @property
    def algorithm(self) -> SignatureAlgorithm:
        """The algorithm that `apksigner` would take for this key: SHA-512 for large keys."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            if self._key.key_size > _LARGE_RSA_BITS:
                return SignatureAlgorithm.RSA_PKCS1_V1_5_SHA512
            return SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256
        if isinstance(self._key, dsa.DSAPrivateKey):
            return SignatureAlgorithm.DSA_SHA256
        if self._key.key_size > _LARGE_EC_BITS:
            return SignatureAlgorithm.ECDSA_SHA512
        return SignatureAlgorithm.ECDSA_SHA256

    def sign(self, algorithm: Algorithm, data: bytes) -> bytes:
        """A signature over `data`; SigningError if the key is of another type or too short."""
        try:
            return self._sign(algorithm, data)
        except ValueError as error:
            raise SigningError(f"{algorithm.name} does not go with this key: {error}") from None

    def _sign(self, algorithm: Algorithm, data: bytes) -> bytes:
        digest = _HASHES[algorithm.hash_name]()
        if isinstance(self._key, rsa.RSAPrivateKey) and algorithm.key_type is KeyType.RSA:
            scheme: padding.AsymmetricPadding = padding.PKCS1v15()
            if algorithm.pss:
                scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
            return self._key.sign(data, scheme, digest)
        if isinstance(self._key, ec.EllipticCurvePrivateKey) and algorithm.key_type is KeyType.EC:
            return self._key.sign(data, ec.ECDSA(digest))
        if isinstance(self._key, dsa.DSAPrivateKey) and algorithm.key_type is KeyType.DSA:
            return self._key.sign(data, digest)
        raise SigningError(f"{algorithm.name} does not go with this key")


def _check_accepted(certificate: bytes) -> None:
    """SigningError if no platform takes the key, or the certificate's encoding of it."""
    try:
        read_public_key(certificate_public_key(certificate))
    except (CertificateError, PublicKeyError) as error:
        raise SigningError(f"no platform accepts the key: {error}") from None


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _self_signed(key: PrivateKey, common_name: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, common_name)])
    start = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + 30 * _YEAR)
        .sign(key, SHA256())
    )
