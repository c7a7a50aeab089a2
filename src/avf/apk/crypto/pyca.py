"""Signature verification with the `cryptography` package."""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.hashes import (
    MD5,
    SHA1,
    SHA224,
    SHA256,
    SHA384,
    SHA512,
    HashAlgorithm,
)
from cryptography.hazmat.primitives.serialization import load_der_public_key

from avf.apk.crypto import BAD_SIGNATURE, Algorithm
from avf.apk.errors import PublicKeyError, SignatureInvalid

_HASHES: dict[str, type[HashAlgorithm]] = {
    "md5": MD5,
    "sha1": SHA1,
    "sha224": SHA224,
    "sha256": SHA256,
    "sha384": SHA384,
    "sha512": SHA512,
}


def verify_signature(
    algorithm: Algorithm, public_key: bytes, data: bytes, signature: bytes
) -> None:
    """See `avf.apk.crypto.verify_signature`."""
    try:
        key = load_der_public_key(public_key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PublicKeyError(f"Public key cannot be read: {error}") from None
    digest = _HASHES[algorithm.hash_name]()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, _rsa_padding(algorithm, digest), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(digest))
        elif isinstance(key, dsa.DSAPublicKey):
            key.verify(signature, data, digest)
        else:
            raise PublicKeyError("Public key has the wrong ID")
    except (InvalidSignature, ValueError):
        raise SignatureInvalid(BAD_SIGNATURE) from None


def _rsa_padding(algorithm: Algorithm, digest: HashAlgorithm) -> padding.AsymmetricPadding:
    if algorithm.pss:
        return padding.PSS(padding.MGF1(digest), digest.digest_size)
    return padding.PKCS1v15()
