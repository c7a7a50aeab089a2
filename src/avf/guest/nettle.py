"""AES-256-GCM with libnettle, which is ready far sooner than libcrypto: that has 21,000 addresses to fill in first."""

from typing import Any

TAG_SIZE = 16

_LIBRARY = "libnettle.so.8"
_CONTEXT_SIZE = 8192
"""More than the 4400 bytes of struct gcm_aes256_ctx: a key's table, three blocks, two lengths, round keys."""

_library: Any = None


def load() -> bool:
    """Whether it is there. The agent asks while /usr is the RAM disk's: the system's would have to be verified."""
    global _library
    if _library is None:
        import ctypes

        try:
            _library = ctypes.CDLL(_LIBRARY)
        except OSError:
            _library = False
    return _library is not False


def gcm(
    key: bytes, nonce: bytes, text: bytes, associated: bytes, *, decrypts: bool
) -> tuple[bytes, bytes]:
    """`text` encrypted or decrypted, and the tag that belongs to it, which who decrypts has to compare.

    `key`: 32 bytes, `nonce`: 12. Only where the library is there. Source: nettle/gcm.h.
    """
    import ctypes

    size = ctypes.c_size_t
    context = ctypes.create_string_buffer(_CONTEXT_SIZE)
    output = bytearray(len(text) or 1)
    there = ctypes.byref(ctypes.c_char.from_buffer(output))  # an array has a type for each size
    tag = ctypes.create_string_buffer(TAG_SIZE)
    crypt = _library.nettle_gcm_aes256_decrypt if decrypts else _library.nettle_gcm_aes256_encrypt
    _library.nettle_gcm_aes256_set_key(context, key)
    _library.nettle_gcm_aes256_set_iv(context, size(len(nonce)), nonce)
    _library.nettle_gcm_aes256_update(context, size(len(associated)), associated)
    crypt(context, size(len(text)), there, text)
    _library.nettle_gcm_aes256_digest(context, size(TAG_SIZE), tag)
    return bytes(output[: len(text)]), tag.raw
