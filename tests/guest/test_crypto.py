"""Our HKDF, AES-GCM and CBOR against the `cryptography` package and against themselves."""

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avf.guest import crypto, nettle
from avf.guest.cbor import CborError, decode, encode
from avf.guest.crypto import CryptoError, decrypt, encrypt, hkdf

KEYS = st.binary(min_size=32, max_size=32)
NONCES = st.binary(min_size=12, max_size=12)
CBOR = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.binary() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(-9, 9), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(
    st.binary(min_size=1, max_size=80),
    st.binary(max_size=80),
    st.binary(max_size=80),
    st.integers(1, 300),
)
def test_hkdf(key: bytes, salt: bytes, info: bytes, size: int) -> None:
    assert hkdf(key, salt, info, size) == HKDF(hashes.SHA256(), size, salt, info).derive(key)
    assert hkdf(key, salt, info, size, "sha512") == HKDF(hashes.SHA512(), size, salt, info).derive(
        key
    )


def test_hkdf_of_nothing_and_of_too_much() -> None:
    assert hkdf(b"k", b"", b"", 0) == b""
    with pytest.raises(ValueError, match="cannot give"):
        hkdf(b"k", b"", b"", 255 * 32 + 1)


@pytest.fixture(params=["libcrypto", "libnettle"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two does AES-GCM."""
    monkeypatch.setattr(crypto, "_library", None)
    if request.param == "libcrypto":
        monkeypatch.setattr(nettle, "load", lambda: False)
    else:
        assert nettle.load()
        monkeypatch.delattr(crypto, "_load")
    name: str = request.param
    return name


def test_libcrypto_does_aes_gcm_where_there_is_no_libnettle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crypto, "_library", None)
    monkeypatch.setattr(nettle, "_library", None)
    monkeypatch.setattr(nettle, "_LIBRARY", "libnot-there.so")
    sealed = encrypt(bytes(32), bytes(12), b"text", b"header")
    assert sealed == AESGCM(bytes(32)).encrypt(bytes(12), b"text", b"header")
    assert decrypt(bytes(32), bytes(12), sealed, b"header") == b"text"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(KEYS, NONCES, st.binary(max_size=200), st.binary(max_size=200))
def test_aes_gcm(library: str, key: bytes, nonce: bytes, text: bytes, associated: bytes) -> None:
    sealed = encrypt(key, nonce, text, associated)
    assert sealed == AESGCM(key).encrypt(nonce, text, associated)
    assert decrypt(key, nonce, sealed, associated) == text


@pytest.mark.parametrize("position", [0, 5, -1])
def test_every_change_is_seen(library: str, position: int) -> None:
    key, nonce = hashlib.sha256(b"key").digest(), bytes(12)
    sealed = bytearray(encrypt(key, nonce, b"plaintext", b"header"))
    with pytest.raises(CryptoError):
        decrypt(key, nonce, bytes(sealed), b"Header")
    sealed[position] ^= 1
    with pytest.raises(CryptoError, match="not authentic"):
        decrypt(key, nonce, bytes(sealed), b"header")
    with pytest.raises(CryptoError, match="shorter"):
        decrypt(key, nonce, b"short", b"header")


@given(CBOR)
def test_cbor_round_trip(value: object) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=100))
def test_cbor_never_crashes(data: bytes) -> None:
    try:
        decode(data)
    except CborError:
        pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 8949, appendix A
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (1000000, "1a000f4240"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-1, "20"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (b"\x01\x02\x03\x04", "4401020304"),
        ("IETF", "6449455446"),
        ([1, [2, 3]], "8201820203"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
        (False, "f4"),
        (None, "f6"),
    ],
)
def test_cbor_vectors(value: object, expected: str) -> None:
    assert encode(value).hex() == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "cut short"),
        ("0000", "1 bytes follow"),
        ("9f01ff", "indefinite"),
        ("5a7fffffff00", "cut short"),
        ("9a7fffffff00", "claims more items"),
        ("a2000100", "cut short"),
        ("a200010002", "same key twice"),
        ("a14100f6", "no text or integer"),
        ("61ff", "UTF-8"),
        ("c000", "major type 6"),
        ("81" * 20 + "00", "deeply"),
    ],
)
def test_cbor_damage(data: str, message: str) -> None:
    with pytest.raises(CborError, match=message):
        decode(bytes.fromhex(data))


def test_cbor_of_foreign_things() -> None:
    with pytest.raises(CborError, match="float"):
        encode(1.5)
    with pytest.raises(CborError, match="64 bits"):
        encode(1 << 64)
