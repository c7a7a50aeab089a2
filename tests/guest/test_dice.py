"""The DICE chain, checked by other hands: `cryptography` verifies what libcrypto signed."""

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from avf.guest.cbor import decode, encode
from avf.guest.crypto import ed25519_public_key, ed25519_sign
from avf.guest.dice import certificate_chain
from avf.guest.identity import ApkData, PayloadIdentity
from avf.guest.secrets import agent_cdi, config_descriptor, derive_cdi, payload_inputs

IDENTITY = PayloadIdentity(
    bytes(64), ApkData(b"\x01" * 32, b"key"), (ApkData(b"\x02" * 32, b"other key"),)
)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_ed25519(seed: bytes, message: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    assert ed25519_public_key(seed) == private.public_key().public_bytes_raw()
    assert ed25519_sign(seed, message) == private.sign(message)


def test_chain() -> None:
    inputs = payload_inputs(IDENTITY, True, "/mnt/apk/c.json", None)
    parent = agent_cdi(True)
    root, (protected, unprotected, payload, signature) = decode(
        certificate_chain(parent, derive_cdi(parent, inputs), inputs)
    )
    assert {key: root[key] for key in (1, 3, 4, -1)} == {1: 1, 3: -8, 4: [2], -1: 6}
    assert (decode(protected), unprotected) == ({1: -8}, {})
    issuer = Ed25519PublicKey.from_public_bytes(root[-2])
    issuer.verify(signature, encode(["Signature1", protected, b"", payload]))
    with pytest.raises(InvalidSignature):
        issuer.verify(signature, encode(["Signature1", protected, b"", payload + b"\0"]))

    claims = decode(payload)
    assert claims[-4670545] == hashlib.sha512(b"\x01" * 32 + b"\x02" * 32).digest()
    assert claims[-4670548] == config_descriptor("/mnt/apk/c.json", None)
    assert claims[-4670547] == hashlib.sha512(claims[-4670548]).digest()
    assert claims[-4670549] == hashlib.sha512(b"key" + b"other key").digest()
    assert claims[-4670551] == b"\x02"
    assert decode(claims[-4670552])[-2] != root[-2]
    assert claims[1] != claims[2]
    for name in (claims[1], claims[2]):
        assert len(bytes.fromhex(name)) == 20
        assert int(name, 16) < 1 << 159


def test_chains_differ_by_code() -> None:
    parent = agent_cdi(False)
    chains = set()
    for root_hash in (b"\x01" * 32, b"\x09" * 32):
        identity = IDENTITY._replace(apk=ApkData(root_hash, b"key"))
        inputs = payload_inputs(identity, False, None, "x.so")
        chains.add(certificate_chain(parent, derive_cdi(parent, inputs), inputs))
    assert len(chains) == 2
