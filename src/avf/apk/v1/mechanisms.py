"""The algorithms of v1 signatures, and the platforms that take them.

Source: what apksigner knows of platforms (`OidConstants` and `V1SchemeVerifier` of AOSP's tools/apksig).
"""

from typing import NamedTuple

from avf.apk.algorithms import KeyType
from avf.apk.signers import MAX_SDK

SdkRange = tuple[int, int]
"""The lowest and the highest SDK, both inclusive."""

HASHES = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
"""By the object identifier of a digest algorithm."""

_KEY_OIDS = {
    "1.2.840.113549.1.1.1": KeyType.RSA,
    "1.2.840.10040.4.1": KeyType.DSA,
    "1.2.840.10045.2.1": KeyType.EC,
}
_SIGNATURE_OIDS = {
    "1.2.840.113549.1.1.4": (KeyType.RSA, "md5"),
    "1.2.840.113549.1.1.5": (KeyType.RSA, "sha1"),
    "1.2.840.113549.1.1.14": (KeyType.RSA, "sha224"),
    "1.2.840.113549.1.1.11": (KeyType.RSA, "sha256"),
    "1.2.840.113549.1.1.12": (KeyType.RSA, "sha384"),
    "1.2.840.113549.1.1.13": (KeyType.RSA, "sha512"),
    "1.2.840.10040.4.3": (KeyType.DSA, "sha1"),
    "2.16.840.1.101.3.4.3.1": (KeyType.DSA, "sha224"),
    "2.16.840.1.101.3.4.3.2": (KeyType.DSA, "sha256"),
    "1.2.840.10045.4.1": (KeyType.EC, "sha1"),
    "1.2.840.10045.4.3.1": (KeyType.EC, "sha224"),
    "1.2.840.10045.4.3.2": (KeyType.EC, "sha256"),
    "1.2.840.10045.4.3.3": (KeyType.EC, "sha384"),
    "1.2.840.10045.4.3.4": (KeyType.EC, "sha512"),
}
_SINCE_0: tuple[SdkRange, ...] = ((0, MAX_SDK),)
_SINCE_9: tuple[SdkRange, ...] = ((9, MAX_SDK),)
_SINCE_18: tuple[SdkRange, ...] = ((18, MAX_SDK),)
_SINCE_21: tuple[SdkRange, ...] = ((21, MAX_SDK),)
_SINCE_22: tuple[SdkRange, ...] = ((22, MAX_SDK),)
_NOT_9_TO_17: tuple[SdkRange, ...] = ((0, 8), (18, MAX_SDK))
_NOT_9_TO_20: tuple[SdkRange, ...] = ((0, 8), (21, MAX_SDK))
_BY_KEY = {
    (KeyType.RSA, "md5"): _SINCE_0,
    (KeyType.RSA, "sha1"): _SINCE_0,
    (KeyType.RSA, "sha224"): _NOT_9_TO_20,
    (KeyType.RSA, "sha256"): _NOT_9_TO_17,
    (KeyType.RSA, "sha384"): _SINCE_18,
    (KeyType.RSA, "sha512"): _SINCE_18,
    (KeyType.DSA, "sha1"): _SINCE_0,
    (KeyType.DSA, "sha224"): _SINCE_22,
    (KeyType.DSA, "sha256"): _SINCE_22,
    (KeyType.EC, "sha1"): _SINCE_18,
    (KeyType.EC, "sha224"): _SINCE_21,
    (KeyType.EC, "sha256"): _SINCE_18,
    (KeyType.EC, "sha384"): _SINCE_18,
    (KeyType.EC, "sha512"): _SINCE_18,
}
"""Where the signature algorithm names the type of key alone."""
_BY_SIGNATURE = {
    (KeyType.RSA, "md5"): _NOT_9_TO_20,
    (KeyType.RSA, "sha1"): _SINCE_0,
    (KeyType.RSA, "sha224"): _NOT_9_TO_20,
    (KeyType.RSA, "sha256"): _NOT_9_TO_17,
    (KeyType.DSA, "sha1"): _SINCE_9,
    (KeyType.EC, "sha1"): _SINCE_18,
}
"""Where it names the hash too, the same as the digest algorithm; the others came with SDK 21."""
_MIXED: tuple[SdkRange, ...] = ((21, 23),)
_MIXED_21: tuple[SdkRange, ...] = ((21, 21),)
_MIXED_21_ONLY = {("sha224", "sha256"), ("sha256", "sha1"), ("sha512", "sha384")}
"""With RSA keys: (hash of the digest algorithm, hash of the signature algorithm)."""


class Mechanism(NamedTuple):
    """How a signature was made, as `avf.apk.crypto.verify_signature` asks for it."""

    key_type: KeyType
    hash_name: str
    pss: bool = False

    @property
    def name(self) -> str:
        return f"{self.hash_name.upper()} with {self.key_type.value}"


def mechanism(digest_oid: str, signature_oid: str) -> Mechanism | None:
    """What the two algorithms of a SignerInfo ask for; None if one is unknown."""
    if digest_oid not in HASHES:
        return None
    if signature_oid in _KEY_OIDS:
        return Mechanism(_KEY_OIDS[signature_oid], HASHES[digest_oid])
    known = _SIGNATURE_OIDS.get(signature_oid)
    return Mechanism(*known) if known else None


def platforms(digest_oid: str, signature_oid: str) -> tuple[SdkRange, ...]:
    """The SDKs that take this pair of algorithms."""
    digest, key_type = HASHES.get(digest_oid), _KEY_OIDS.get(signature_oid)
    if digest is None:
        return ()
    if key_type:
        return _BY_KEY.get((key_type, digest), ())
    if signature_oid not in _SIGNATURE_OIDS:
        return ()
    kind, signed = _SIGNATURE_OIDS[signature_oid]
    if digest == signed:
        return _BY_SIGNATURE.get((kind, digest), _SINCE_21)
    only_21 = kind is KeyType.RSA and (digest, signed) in _MIXED_21_ONLY
    return _MIXED_21 if only_21 else _MIXED


def not_in(wanted: SdkRange, known: tuple[SdkRange, ...]) -> list[SdkRange]:
    """The parts of `wanted` that lie in none of `known`, which are in order."""
    missing: list[SdkRange] = []
    low, high = wanted
    for start, end in known:
        if low < start:
            missing.append((low, min(high, start - 1)))
        low = max(low, end + 1)
        if low > high:
            return missing
    return [*missing, (low, high)]
