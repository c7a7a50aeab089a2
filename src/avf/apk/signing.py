"""Sign APKs with the v2 and v3 schemes and idsigs with v4. Needs `cryptography`; no Java."""

import datetime
from collections.abc import Collection
from typing import BinaryIO

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from avf.apk import signing_block
from avf.apk.algorithms import KeyType, SignatureAlgorithm
from avf.apk.digest import Contents, content_digest, make_contents
from avf.apk.errors import ApkError, SigningError
from avf.apk.fields import lp32, lp32_items, u32
from avf.apk.idsig import Idsig
from avf.apk.signers import ATTRIBUTE_STRIPPING_PROTECTION, MAX_SDK
from avf.apk.signing_block import BlockId, find_signing_block
from avf.apk.source import FileSource, Source, open_source
from avf.apk.verify import Scheme
from avf.apk.zip import EOCD_CD_OFFSET_FIELD, find_sections

DEFAULT_MIN_SDK = 28
_ALIGNMENT = 4096
_COPY_SIZE = 1 << 20
_V3_ID = 3
_LARGE_RSA_BITS = 3072
_LARGE_EC_BITS = 256
_CURVES: dict[str, ec.EllipticCurve] = {
    "ec-p256": ec.SECP256R1(),
    "ec-p384": ec.SECP384R1(),
    "ec-p521": ec.SECP521R1(),
}
_RSA_SIZES = {"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}
_YEAR = datetime.timedelta(days=365)


class SigningKey:
    """A private key (RSA or EC) and the X.509 certificate that APKs signed with it carry."""

    def __init__(
        self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> None:
        self._key = key
        self.certificate = certificate.public_bytes(Encoding.DER)
        """DER."""
        self.public_key = key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        """SubjectPublicKeyInfo, DER."""
        if certificate.public_key() != key.public_key():
            raise SigningError("the certificate is not of the private key")

    @classmethod
    def generate(cls, kind: str = "ec-p256", *, common_name: str = "AVF payload") -> "SigningKey":
        """A new key with a self-signed certificate; `kind` is ec-p256|p384|p521 or rsa-2048|3072|4096."""
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
        if kind in _CURVES:
            key = ec.generate_private_key(_CURVES[kind])
        elif kind in _RSA_SIZES:
            key = rsa.generate_private_key(65537, _RSA_SIZES[kind])
        else:
            raise SigningError(f"unknown kind of key {kind!r}: {', '.join(_CURVES | _RSA_SIZES)}")
        return cls(key, _self_signed(key, common_name))

    @classmethod
    def from_pem(
        cls, key: bytes, certificate: bytes, *, password: bytes | None = None
    ) -> "SigningKey":
        """From a PEM private key and a PEM certificate."""
        try:
            private = load_pem_private_key(key, password)
            loaded = x509.load_pem_x509_certificate(certificate)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SigningError(f"cannot read the signing key: {error}") from None
        if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise SigningError("the signing key is neither RSA nor EC")
        return cls(private, loaded)

    def to_pem(self) -> tuple[bytes, bytes]:
        """(private key as unencrypted PKCS #8, certificate)."""
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key, x509.load_der_x509_certificate(self.certificate).public_bytes(Encoding.PEM)

    @property
    def algorithm(self) -> SignatureAlgorithm:
        """The algorithm that `apksigner` would take for this key: SHA-512 for large keys."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            if self._key.key_size > _LARGE_RSA_BITS:
                return SignatureAlgorithm.RSA_PKCS1_V1_5_SHA512
            return SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256
        if self._key.key_size > _LARGE_EC_BITS:
            return SignatureAlgorithm.ECDSA_SHA512
        return SignatureAlgorithm.ECDSA_SHA256

    def sign(self, algorithm: SignatureAlgorithm, data: bytes) -> bytes:
        """A signature over `data`; SigningError if the key is of another type."""
        digest = SHA256() if algorithm.hash_name == "sha256" else SHA512()
        if isinstance(self._key, rsa.RSAPrivateKey) and algorithm.key_type is KeyType.RSA:
            scheme: padding.AsymmetricPadding = padding.PKCS1v15()
            if algorithm.pss:
                scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
            return self._key.sign(data, scheme, digest)
        if isinstance(self._key, ec.EllipticCurvePrivateKey) and algorithm.key_type is KeyType.EC:
            return self._key.sign(data, ec.ECDSA(digest))
        raise SigningError(f"{algorithm.name} does not go with this key")


def sign(
    apk: int | BinaryIO,
    out: BinaryIO,
    key: SigningKey,
    *,
    schemes: Collection[Scheme] = (Scheme.V2, Scheme.V3),
    algorithms: Collection[SignatureAlgorithm] = (),
    min_sdk: int = DEFAULT_MIN_SDK,
    max_sdk: int = MAX_SDK,
) -> None:
    """Write `apk`, signed anew, to `out`, an empty file open for reading and writing.

    An APK Signing Block that is there is dropped. The new one begins and ends on 4096-byte boundaries. `algorithms`
    defaults to `key.algorithm`. SigningError if the ZIP is not one that Android installs.
    """
    if not schemes or not set(schemes) <= {Scheme.V2, Scheme.V3}:
        raise SigningError("APKs can be signed with the schemes v2 and v3")
    chosen = tuple(algorithms) or (key.algorithm,)
    contents = _write_unsigned(apk, out)
    digests = [(a, content_digest(contents, a.content_digest)) for a in chosen]
    pairs: list[tuple[int, bytes]] = []
    if Scheme.V2 in schemes:
        attributes = _stripping_protection() if Scheme.V3 in schemes else b""
        pairs.append((BlockId.V2, _v2_block(key, digests, attributes)))
    if Scheme.V3 in schemes:
        pairs.append((BlockId.V3, _v3_block(key, digests, min_sdk, max_sdk)))
    block = _padded_block(pairs)
    directory = contents.source.read_at(contents.cd_offset, contents.cd_size)
    out.seek(contents.front)
    out.write(block + directory + _with_cd_offset(contents.eocd, contents.front + len(block)))
    out.flush()


def sign_idsig(idsig: Idsig, apk_size: int, key: SigningKey) -> None:
    """Fill in certificate, key and signature of an idsig, as `apksigner` does for v4."""
    idsig.certificate = key.certificate
    idsig.public_key = key.public_key
    idsig.signature_algorithm_id = key.algorithm
    idsig.signature = key.sign(key.algorithm, idsig.signed_bytes(apk_size))
    idsig.tree_offset = len(idsig.header())


def _write_unsigned(apk: int | BinaryIO, out: BinaryIO) -> Contents:
    """Copy the entries, pad, and append directory and EOCD; the contents to sign."""
    source = open_source(apk)
    try:
        sections = find_sections(source)
        front = _content_end(source, sections.cd_offset)
    except ApkError as error:
        raise SigningError(f"cannot sign: {error}") from error
    out.seek(0)
    out.truncate()
    for offset in range(0, front, _COPY_SIZE):
        out.write(source.read_at(offset, min(_COPY_SIZE, front - offset)))
    padded = front + -front % _ALIGNMENT
    out.write(bytes(padded - front))
    eocd = source.read_at(sections.eocd_offset, sections.eocd_size)
    out.write(source.read_at(sections.cd_offset, sections.cd_size))
    out.write(_with_cd_offset(eocd, padded))
    out.flush()
    return make_contents(FileSource(out), padded, padded, sections.cd_size, eocd)


def _content_end(source: Source, cd_offset: int) -> int:
    """Where the entries end: at the signing block, if there is one."""
    has_block = cd_offset >= signing_block.MIN_SIZE and (
        source.read_at(cd_offset - 16, 16) == signing_block.MAGIC
    )
    return find_signing_block(source).block_offset if has_block else cd_offset


def _with_cd_offset(eocd: bytes, offset: int) -> bytes:
    field = EOCD_CD_OFFSET_FIELD
    return eocd[:field] + u32(offset) + eocd[field + 4 :]


def _padded_block(pairs: list[tuple[int, bytes]]) -> bytes:
    unpadded = len(signing_block.encode(pairs))
    padding_size = -(unpadded + 12) % _ALIGNMENT
    return signing_block.encode([*pairs, (BlockId.VERITY_PADDING, bytes(padding_size))])


def _v2_block(
    key: SigningKey, digests: list[tuple[SignatureAlgorithm, bytes]], attributes: bytes
) -> bytes:
    signed_data = _digest_records(digests) + lp32_items([key.certificate]) + lp32(attributes)
    return lp32_items([lp32(signed_data) + _proof(key, digests, signed_data)])


def _v3_block(
    key: SigningKey,
    digests: list[tuple[SignatureAlgorithm, bytes]],
    min_sdk: int,
    max_sdk: int,
) -> bytes:
    sdk_range = u32(min_sdk) + u32(max_sdk)
    signed_data = _digest_records(digests) + lp32_items([key.certificate]) + sdk_range + lp32(b"")
    return lp32_items([lp32(signed_data) + sdk_range + _proof(key, digests, signed_data)])


def _digest_records(digests: list[tuple[SignatureAlgorithm, bytes]]) -> bytes:
    return lp32_items([u32(algorithm) + lp32(digest) for algorithm, digest in digests])


def _proof(
    key: SigningKey, digests: list[tuple[SignatureAlgorithm, bytes]], signed_data: bytes
) -> bytes:
    signatures = [u32(a) + lp32(key.sign(a, signed_data)) for a, _ in digests]
    return lp32_items(signatures) + lp32(key.public_key)


def _stripping_protection() -> bytes:
    """The v2 attribute that says: this APK has a v3 signature too."""
    return lp32(u32(ATTRIBUTE_STRIPPING_PROTECTION) + u32(_V3_ID))


def _self_signed(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, common_name: str
) -> x509.Certificate:
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
