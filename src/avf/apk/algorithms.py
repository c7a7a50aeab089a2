"""Signature algorithms of the APK signature schemes and the content digests they sign.

Source: https://source.android.com/docs/security/features/apksigning/v2 "Signature algorithm IDs".
"""

from enum import Enum, IntEnum


class ContentDigest(IntEnum):
    """How contents are digested; a higher value is stronger."""

    CHUNKED_SHA256 = 1
    VERITY_SHA256 = 2
    CHUNKED_SHA512 = 3

    @property
    def length(self) -> int:
        """Bytes in the digest as it is recorded (the verity one carries the content length too)."""
        return {1: 32, 2: 40, 3: 64}[self.value]


class KeyType(Enum):
    RSA = "RSA"
    EC = "EC"
    DSA = "DSA"


class SignatureAlgorithm(IntEnum):
    """Ids that the schemes define."""

    RSA_PSS_SHA256 = 0x0101
    RSA_PSS_SHA512 = 0x0102
    RSA_PKCS1_V1_5_SHA256 = 0x0103
    RSA_PKCS1_V1_5_SHA512 = 0x0104
    ECDSA_SHA256 = 0x0201
    ECDSA_SHA512 = 0x0202
    DSA_SHA256 = 0x0301
    VERITY_RSA_PKCS1_V1_5_SHA256 = 0x0421
    VERITY_ECDSA_SHA256 = 0x0423
    VERITY_DSA_SHA256 = 0x0425

    @property
    def key_type(self) -> KeyType:
        return _PROPERTIES[self][0]

    @property
    def hash_name(self) -> str:
        """The hash that is signed: "sha256" or "sha512"."""
        return _PROPERTIES[self][1]

    @property
    def content_digest(self) -> ContentDigest:
        return _PROPERTIES[self][2]

    @property
    def pss(self) -> bool:
        """RSA-PSS (salt as long as the hash) rather than PKCS#1 v1.5."""
        return self.name.startswith("RSA_PSS")


_PROPERTIES = {
    SignatureAlgorithm.RSA_PSS_SHA256: (KeyType.RSA, "sha256", ContentDigest.CHUNKED_SHA256),
    SignatureAlgorithm.RSA_PSS_SHA512: (KeyType.RSA, "sha512", ContentDigest.CHUNKED_SHA512),
    SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256: (KeyType.RSA, "sha256", ContentDigest.CHUNKED_SHA256),
    SignatureAlgorithm.RSA_PKCS1_V1_5_SHA512: (KeyType.RSA, "sha512", ContentDigest.CHUNKED_SHA512),
    SignatureAlgorithm.ECDSA_SHA256: (KeyType.EC, "sha256", ContentDigest.CHUNKED_SHA256),
    SignatureAlgorithm.ECDSA_SHA512: (KeyType.EC, "sha512", ContentDigest.CHUNKED_SHA512),
    SignatureAlgorithm.DSA_SHA256: (KeyType.DSA, "sha256", ContentDigest.CHUNKED_SHA256),
    SignatureAlgorithm.VERITY_RSA_PKCS1_V1_5_SHA256: (
        KeyType.RSA,
        "sha256",
        ContentDigest.VERITY_SHA256,
    ),
    SignatureAlgorithm.VERITY_ECDSA_SHA256: (KeyType.EC, "sha256", ContentDigest.VERITY_SHA256),
    SignatureAlgorithm.VERITY_DSA_SHA256: (KeyType.DSA, "sha256", ContentDigest.VERITY_SHA256),
}


def algorithm_of(algorithm_id: int) -> SignatureAlgorithm | None:
    """The algorithm with this id, None if the id is unknown."""
    try:
        return SignatureAlgorithm(algorithm_id)
    except ValueError:
        return None


def algorithm_text(algorithm_id: int) -> str:
    """For people: the name, or the number of an unknown one."""
    known = algorithm_of(algorithm_id)
    return known.name if known else f"unknown algorithm {algorithm_id:#06x}"
