"""HKDF (RFC 5869) with the standard library; AES-256-GCM with libnettle, or where there is none with OpenSSL 3's
libcrypto; Ed25519 with that.
"""

import hmac
from typing import Any

from avf.guest import nettle
from avf.guest.nettle import TAG_SIZE

NONCE_SIZE = 12
KEY_SIZE = 32

_SET_TAG = 0x11
_GET_TAG = 0x10
_ED25519 = 1087
_SIZES = {"sha256": 32, "sha512": 64}
_NOT_AUTHENTIC = "the ciphertext is not authentic"

_library: Any = None


class CryptoError(Exception):
    """A ciphertext that is not authentic, or a libcrypto that refuses."""


def rehearse() -> None:
    """Uses once what the agent uses, so that libcrypto has found it: it keeps what it has looked up.

    Draws no random number. Raises OSError or CryptoError.
    """
    key, nonce = bytes(KEY_SIZE), bytes(NONCE_SIZE)
    decrypt(key, nonce, encrypt(key, nonce, key, b""), b"")
    ed25519_sign(hkdf(key, key, b"", KEY_SIZE), key)
    ed25519_public_key(key)


def hkdf(key: bytes, salt: bytes, info: bytes, size: int, digest: str = "sha256") -> bytes:
    """`size` bytes (at most 255 digests) derived from `key`."""
    length = _SIZES[digest]
    if not 0 <= size <= 255 * length:
        raise ValueError(f"HKDF cannot give {size} bytes")
    secret = hmac.digest(salt or bytes(length), key, digest)
    output = block = b""
    counter = 1
    while len(output) < size:
        block = hmac.digest(secret, block + info + bytes([counter]), digest)
        output += block
        counter += 1
    return output[:size]


def encrypt(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """AES-256-GCM: ciphertext and tag."""
    return _gcm(key, nonce, plaintext, associated, None)


def decrypt(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """The plaintext of what `encrypt` made. Raises CryptoError if any bit of it, or of `associated`, has changed."""
    if len(ciphertext) < TAG_SIZE:
        raise CryptoError("the ciphertext is shorter than its tag")
    return _gcm(key, nonce, ciphertext[:-TAG_SIZE], associated, ciphertext[-TAG_SIZE:])


def _gcm(key: bytes, nonce: bytes, text: bytes, associated: bytes, tag: bytes | None) -> bytes:
    """Encrypts, or decrypts where there is a tag to check."""
    if len(key) != KEY_SIZE or len(nonce) != NONCE_SIZE:
        raise ValueError("AES-256-GCM wants a key of 32 bytes and a nonce of 12")
    if not nettle.load():
        return _gcm_of_libcrypto(key, nonce, text, associated, tag)
    result, found = nettle.gcm(key, nonce, text, associated, decrypts=tag is not None)
    if tag is None:
        return result + found
    if not hmac.compare_digest(tag, found):
        raise CryptoError(_NOT_AUTHENTIC)
    return result


def _gcm_of_libcrypto(
    key: bytes, nonce: bytes, text: bytes, associated: bytes, tag: bytes | None
) -> bytes:
    import ctypes

    crypto = _load()
    start, update, finish = (
        (crypto.EVP_EncryptInit_ex, crypto.EVP_EncryptUpdate, crypto.EVP_EncryptFinal_ex)
        if tag is None
        else (crypto.EVP_DecryptInit_ex, crypto.EVP_DecryptUpdate, crypto.EVP_DecryptFinal_ex)
    )
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    output = ctypes.create_string_buffer(len(text) + TAG_SIZE)
    size = ctypes.c_int()
    try:
        _must(start(context, ctypes.c_void_p(crypto.EVP_aes_256_gcm()), None, key, nonce))
        if associated:
            _must(update(context, None, ctypes.byref(size), associated, len(associated)))
        if text:
            _must(update(context, output, ctypes.byref(size), text, len(text)))
        result = output.raw[: len(text)]
        if tag is None:
            _must(finish(context, output, ctypes.byref(size)))
            found = ctypes.create_string_buffer(TAG_SIZE)
            _must(crypto.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG_SIZE, found))
            return result + found.raw
        _must(crypto.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, TAG_SIZE, tag))
        if finish(context, output, ctypes.byref(size)) != 1:
            raise CryptoError(_NOT_AUTHENTIC)
        return result
    finally:
        crypto.EVP_CIPHER_CTX_free(context)


def ed25519_public_key(seed: bytes) -> bytes:
    """The public key (32 bytes) of the private key `seed` (32 bytes)."""
    import ctypes

    key = _ed25519_key(seed)
    try:
        public = ctypes.create_string_buffer(32)
        size = ctypes.c_size_t(32)
        _must(_load().EVP_PKEY_get_raw_public_key(key, public, ctypes.byref(size)))
        return public.raw
    finally:
        _load().EVP_PKEY_free(key)


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    """The signature (64 bytes) of `message` (RFC 8032)."""
    import ctypes

    crypto = _load()
    key = _ed25519_key(seed)
    context = ctypes.c_void_p(crypto.EVP_MD_CTX_new())
    try:
        signature = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(64)
        _must(crypto.EVP_DigestSignInit(context, None, None, None, key))
        _must(
            crypto.EVP_DigestSign(
                context, signature, ctypes.byref(size), message, ctypes.c_size_t(len(message))
            )
        )
        return signature.raw
    finally:
        crypto.EVP_MD_CTX_free(context)
        crypto.EVP_PKEY_free(key)


def _ed25519_key(seed: bytes) -> Any:
    import ctypes

    if len(seed) != KEY_SIZE:
        raise ValueError("an Ed25519 key has 32 bytes")
    key = _load().EVP_PKEY_new_raw_private_key(_ED25519, None, seed, ctypes.c_size_t(len(seed)))
    if not key:
        raise CryptoError("libcrypto refuses an Ed25519 key")
    return ctypes.c_void_p(key)


def _must(result: int) -> None:
    if result != 1:
        raise CryptoError("libcrypto refuses")


def _load() -> Any:
    global _library
    if _library is None:
        import ctypes

        crypto = ctypes.CDLL("libcrypto.so.3")
        crypto.EVP_CIPHER_CTX_new.restype = ctypes.c_void_p
        crypto.EVP_aes_256_gcm.restype = ctypes.c_void_p
        crypto.EVP_MD_CTX_new.restype = ctypes.c_void_p
        crypto.EVP_PKEY_new_raw_private_key.restype = ctypes.c_void_p
        _library = crypto
    return _library
