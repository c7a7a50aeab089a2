"""Signature verification with the `cryptography` package."""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import load_der_public_key

from avf.apk.algorithms import KeyType, SignatureAlgorithm
from avf.apk.crypto import BAD_SIGNATURE, DSA_BITS, MAX_RSA_BITS, MIN_RSA_BITS, WRONG_KEY
from avf.apk.errors import PublicKeyError, SignatureInvalid

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def verify_signature(
    algorithm: SignatureAlgorithm, public_key: bytes, data: bytes, signature: bytes
) -> None:
    """See `avf.apk.crypto.verify_signature`."""
    try:
        key = load_der_public_key(public_key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PublicKeyError(f"Public key cannot be read: {error}") from None
    digest = SHA256() if algorithm.hash_name == "sha256" else SHA512()
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm.key_type is KeyType.RSA:
            if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
                raise PublicKeyError(f"Public key has {key.key_size} bits")
            key.verify(signature, data, _rsa_padding(algorithm, digest), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm.key_type is KeyType.EC:
            if not isinstance(key.curve, _CURVES):
                raise PublicKeyError(f"Public key is on curve {key.curve.name}")
            key.verify(signature, data, ec.ECDSA(digest))
        elif isinstance(key, dsa.DSAPublicKey) and algorithm.key_type is KeyType.DSA:
            if key.key_size not in DSA_BITS:
                raise PublicKeyError(f"Public key has {key.key_size} bits")
            key.verify(signature, data, digest)
        else:
            raise PublicKeyError(WRONG_KEY)
    except InvalidSignature:
        raise SignatureInvalid(BAD_SIGNATURE) from None


def _rsa_padding(
    algorithm: SignatureAlgorithm, digest: SHA256 | SHA512
) -> padding.AsymmetricPadding:
    if algorithm.pss:
        return padding.PSS(padding.MGF1(digest), digest.digest_size)
    return padding.PKCS1v15()
