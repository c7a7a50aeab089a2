"""Signature verification for a guest without Python packages: by `rsa`, else OpenSSL 3's libcrypto through ctypes."""

import ctypes
from ctypes import c_char_p, c_int, c_long, c_size_t, c_void_p

from avf.apk.algorithms import KeyType
from avf.apk.crypto import BAD_SIGNATURE, Algorithm, rsa
from avf.apk.errors import PublicKeyError, SignatureInvalid

_SONAME = "libcrypto.so.3"

_library: ctypes.CDLL | None = None


def verify_signature(
    algorithm: Algorithm, public_key: bytes, data: bytes, signature: bytes
) -> None:
    """See `avf.apk.crypto.verify_signature`."""
    if algorithm.key_type is KeyType.RSA:
        rsa.verify_signature(algorithm, public_key, data, signature)
        return
    crypto = _load()
    key = _parse_key(crypto, public_key)
    try:
        _verify(crypto, key, algorithm, data, signature)
    finally:
        crypto.EVP_PKEY_free(key)
        crypto.ERR_clear_error()


def _load() -> ctypes.CDLL:
    """libcrypto with typed functions; OSError if it is not there."""
    global _library
    if _library is None:
        crypto = ctypes.CDLL(_SONAME)
        for name, result, arguments in _FUNCTIONS:
            function = getattr(crypto, name)
            function.restype = result
            function.argtypes = arguments
        _library = crypto
    return _library


_FUNCTIONS = (
    ("d2i_PUBKEY", c_void_p, (c_void_p, c_void_p, c_long)),
    ("EVP_PKEY_free", None, (c_void_p,)),
    ("EVP_get_digestbyname", c_void_p, (c_char_p,)),
    ("EVP_MD_CTX_new", c_void_p, ()),
    ("EVP_MD_CTX_free", None, (c_void_p,)),
    ("EVP_DigestVerifyInit", c_int, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    ("EVP_DigestVerify", c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t)),
    ("ERR_clear_error", None, ()),
)


def _parse_key(crypto: ctypes.CDLL, public_key: bytes) -> int:
    buffer = ctypes.create_string_buffer(public_key, len(public_key) or 1)
    start = ctypes.addressof(buffer)
    position = c_void_p(start)
    key = crypto.d2i_PUBKEY(None, ctypes.byref(position), len(public_key))
    if not key:
        crypto.ERR_clear_error()
        raise PublicKeyError("Public key cannot be read")
    if position.value != start + len(public_key):
        crypto.EVP_PKEY_free(key)
        raise PublicKeyError("Public key cannot be read: bytes follow it")
    return int(key)


def _verify(
    crypto: ctypes.CDLL, key: int, algorithm: Algorithm, data: bytes, signature: bytes
) -> None:
    context = crypto.EVP_MD_CTX_new()
    try:
        digest = crypto.EVP_get_digestbyname(algorithm.hash_name.encode())
        started = crypto.EVP_DigestVerifyInit(context, None, digest, None, key)
        if started != 1:
            raise PublicKeyError("Signature cannot be checked: libcrypto refuses the key")
        result = crypto.EVP_DigestVerify(context, signature, len(signature), data, len(data))
        if result != 1:
            raise SignatureInvalid(BAD_SIGNATURE)
    finally:
        crypto.EVP_MD_CTX_free(context)
