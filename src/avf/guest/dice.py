"""The DICE certificates a payload can show: the agent's public key, and its certificate for the payload's layer.

As an Android boot certificate chain: a CBOR array of a COSE_Key and COSE_Sign1 structures over CWT claims, Ed25519.
Source: Open Profile for DICE (specification, sections on key derivation and on CBOR certificates), RFC 9052.
"""

import hashlib
from typing import Any

from avf.guest.cbor import encode
from avf.guest.crypto import ed25519_public_key, ed25519_sign, hkdf
from avf.guest.secrets import Cdi, DiceInputs

_ASYMMETRIC_SALT = bytes.fromhex(
    "63B6A04D2C077FC10F639F21DA793844356CC2B0B441B3A77124035C03F8E1BE"
    "6035D31F282821A7450A02222AB1B3CFF1679B05AB1CA5D1AFFB789CCD2B0B3B"
)
_ID_SALT = bytes.fromhex(
    "DBDBAEBC8020DA9FF0DD5A24C83AA5A54286DFC263031E329B4DA148430659FE"
    "62CDB5B7E1E00FC680306711EB444AF77209359496FCFF1DB9520BA51C7B29EA"
)
_ID_SIZE = 20

_ISSUER, _SUBJECT = 1, 2
_CODE_HASH, _CONFIG_HASH, _CONFIG_DESCRIPTOR = -4670545, -4670547, -4670548
_AUTHORITY_HASH, _MODE, _SUBJECT_PUBLIC_KEY, _KEY_USAGE = -4670549, -4670551, -4670552, -4670553
_KEY_CERT_SIGN = b"\x20"
_EDDSA = -8


def certificate_chain(parent: Cdi, child: Cdi, inputs: DiceInputs) -> bytes:
    """[COSE_Key of `parent`, certificate of `child` signed by it]."""
    issuer, subject = _seed(parent), _seed(child)
    issuer_key, subject_key = ed25519_public_key(issuer), ed25519_public_key(subject)
    claims = {
        _ISSUER: _identifier(issuer_key),
        _SUBJECT: _identifier(subject_key),
        _CODE_HASH: inputs.code_hash,
        _CONFIG_DESCRIPTOR: inputs.config_descriptor,
        _CONFIG_HASH: hashlib.sha512(inputs.config_descriptor).digest(),
        _AUTHORITY_HASH: inputs.authority_hash,
        _MODE: bytes([inputs.mode]),
        _SUBJECT_PUBLIC_KEY: encode(_cose_key(subject_key)),
        _KEY_USAGE: _KEY_CERT_SIGN,
    }
    return encode([_cose_key(issuer_key), _sign1(issuer, encode(claims))])


def _seed(cdi: Cdi) -> bytes:
    return hkdf(cdi.attest, _ASYMMETRIC_SALT, b"Key Pair", 32, "sha512")


def _identifier(public_key: bytes) -> str:
    """20 bytes in hexadecimal, as a positive number."""
    raw = hkdf(public_key, _ID_SALT, b"ID", _ID_SIZE, "sha512")
    return bytes([raw[0] & 0x7F, *raw[1:]]).hex()


def _cose_key(public_key: bytes) -> dict[int, Any]:
    """key type OKP, algorithm EdDSA, operation verify, curve Ed25519, x."""
    return {1: 1, 3: _EDDSA, 4: [2], -1: 6, -2: public_key}


def _sign1(seed: bytes, payload: bytes) -> list[Any]:
    protected = encode({1: _EDDSA})
    signed = encode(["Signature1", protected, b"", payload])
    return [protected, {}, payload, ed25519_sign(seed, signed)]
