"""RSA signatures, checked with Python's integers (RFC 8017, sections 8.1.2 and 8.2.2).

Checking needs no secret, so how long it takes tells nothing. A guest that runs under emulation is spared most of
OpenSSL's code, which takes longer to be translated than to run.
"""

import hashlib

from avf.apk.crypto import BAD_SIGNATURE, Algorithm
from avf.apk.crypto.spki import BIT_STRING, SEQUENCE, Der
from avf.apk.errors import SignatureInvalid
from avf.named import NamedTuple

_DIGEST_INFO = {
    "md5": "3020300c06082a864886f70d020505000410",
    "sha1": "3021300906052b0e03021a05000414",
    "sha224": "302d300d06096086480165030402040500041c",
    "sha256": "3031300d060960864801650304020105000420",
    "sha384": "3041300d060960864801650304020205000430",
    "sha512": "3051300d060960864801650304020305000440",
}
"""What stands before a hash in a signature by PKCS#1 v1.5, in hex (RFC 8017, section 9.2, note 1)."""


class _Key(NamedTuple):
    modulus: int
    exponent: int

    @property
    def size(self) -> int:
        """Bytes of a signature."""
        return -(-self.modulus.bit_length() // 8)


def verify_signature(
    algorithm: Algorithm, public_key: bytes, data: bytes, signature: bytes
) -> None:
    """See `avf.apk.crypto.verify_signature`; the key is an RSA key that `read_public_key` made."""
    key = _numbers(public_key)
    digest = hashlib.new(algorithm.hash_name, data).digest()
    number = int.from_bytes(signature, "big")
    if len(signature) != key.size or number >= key.modulus:
        raise SignatureInvalid(BAD_SIGNATURE)
    signed = pow(number, key.exponent, key.modulus)
    holds = _holds_pss if algorithm.pss else _holds_pkcs1
    if not holds(signed, key, algorithm.hash_name, digest):
        raise SignatureInvalid(BAD_SIGNATURE)


def _numbers(public_key: bytes) -> _Key:
    info = Der(public_key).inner(SEQUENCE)
    info.inner(SEQUENCE)
    numbers = Der(info.take(BIT_STRING)[1:]).inner(SEQUENCE)
    return _Key(numbers.unsigned(), numbers.unsigned())


def _holds_pkcs1(signed: int, key: _Key, hash_name: str, digest: bytes) -> bool:
    """Whether it is the one encoding that there is of that hash."""
    content = bytes.fromhex(_DIGEST_INFO[hash_name]) + digest
    expected = b"\1" + b"\xff" * (key.size - len(content) - 3) + b"\0" + content
    return signed == int.from_bytes(expected, "big")


def _holds_pss(signed: int, key: _Key, hash_name: str, digest: bytes) -> bool:
    """With a salt as long as the hash."""
    size = len(digest)
    bits = key.modulus.bit_length() - 1
    length = -(-bits // 8)
    if length < 2 * size + 2 or signed.bit_length() > bits:
        return False
    encoded = signed.to_bytes(length, "big")
    masked, tag, end = encoded[: -size - 1], encoded[-size - 1 : -1], encoded[-1]
    mask = int.from_bytes(_mask(hash_name, tag, len(masked)), "big")
    block = (int.from_bytes(masked, "big") ^ mask) & ((1 << (bits - 8 * (size + 1))) - 1)
    # zeros, a one, the salt
    if end != 0xBC or block >> (8 * size) != 1:
        return False
    salt = (block & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    return hashlib.new(hash_name, bytes(8) + digest + salt).digest() == tag


def _mask(hash_name: str, seed: bytes, length: int) -> bytes:
    """MGF1 with the same hash."""
    mask, counter = b"", 0
    while len(mask) < length:
        mask += hashlib.new(hash_name, seed + counter.to_bytes(4, "big")).digest()
        counter += 1
    return mask[:length]
