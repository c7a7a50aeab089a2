"""What an instance's secrets are derived from, after Open DICE and AVF's own derivations.

A guest without a DICE handover (every guest that is not protected) starts from a published constant, as Microdroid does
with its sample values. So secrets differ by instance (by the salt in its image), by payload and by debug level, but the
*host* can compute them: only protected VMs, which need a hypervisor's and a firmware's help, could keep them from it.
"""

import hashlib
from typing import NamedTuple

from avf.guest.cbor import encode
from avf.guest.crypto import hkdf
from avf.guest.instance import PayloadIdentity

MAX_SECRET = 32

_CDI_SIZE = 32
_NO_HANDOVER = hashlib.sha256(b"AVF for Linux: no DICE handover").digest()
_INSTANCE_KEY_INFO = b"microdroid_manager_key"
_SECRET_SALT = bytes.fromhex("8B0FF0D3B1692B95842C9E3C99567A2255F80823815FF516203EBEBAB7A84392")
_STORAGE_KEY_SALT = bytes.fromhex(
    "FC1D357B96F3EF17787D70EDEAFE1D6FB3F940CEDD9940AAA70E927390864A75"
)
_STORAGE_KEY_INFO = b"encryptedstore_key"
_COMPONENT_NAME = -70002
_CONFIG_PATH = -71000
_PAYLOAD_CONFIG = -71001
_MODE_NORMAL, _MODE_DEBUG = 1, 2


class Cdi(NamedTuple):
    """The two compound device identifiers of a DICE layer."""

    attest: bytes
    seal: bytes


class DiceInputs(NamedTuple):
    """What Open DICE measures of a layer. Hashes are SHA-512."""

    code_hash: bytes
    config_descriptor: bytes
    authority_hash: bytes
    mode: int
    hidden: bytes


class PayloadLayer(NamedTuple):
    """The payload's layer on top of the agent's."""

    parent: Cdi
    inputs: DiceInputs
    cdi: Cdi


def agent_cdi(debuggable: bool) -> Cdi:
    """The identity of the layer the agent itself is."""
    mode = bytes([_mode(debuggable)])
    return Cdi(
        hkdf(_NO_HANDOVER, mode, b"CDI_Attest", _CDI_SIZE, "sha512"),
        hkdf(_NO_HANDOVER, mode, b"CDI_Seal", _CDI_SIZE, "sha512"),
    )


def payload_inputs(
    identity: PayloadIdentity, debuggable: bool, config_path: str | None, binary_name: str | None
) -> DiceInputs:
    """What the payload's layer is measured by: root hashes, configuration, signers' keys, debug level, salt."""
    apks = (identity.apk, *identity.extra_apks)
    return DiceInputs(
        hashlib.sha512(b"".join(apk.root_hash for apk in apks)).digest(),
        config_descriptor(config_path, binary_name),
        hashlib.sha512(b"".join(apk.public_key for apk in apks)).digest(),
        _mode(debuggable),
        identity.salt,
    )


def derive_cdi(parent: Cdi, inputs: DiceInputs) -> Cdi:
    """The next layer's identity. The sealing one leaves out code and configuration: updates keep their secrets."""
    tail = inputs.authority_hash + bytes([inputs.mode]) + inputs.hidden
    config_hash = hashlib.sha512(inputs.config_descriptor).digest()
    attest_salt = hashlib.sha512(inputs.code_hash + config_hash + tail).digest()
    seal_salt = hashlib.sha512(tail).digest()
    return Cdi(
        hkdf(parent.attest, attest_salt, b"CDI_Attest", _CDI_SIZE, "sha512"),
        hkdf(parent.seal, seal_salt, b"CDI_Seal", _CDI_SIZE, "sha512"),
    )


def payload_layer(parent: Cdi, inputs: DiceInputs) -> PayloadLayer:
    return PayloadLayer(parent, inputs, derive_cdi(parent, inputs))


def config_descriptor(config_path: str | None, binary_name: str | None) -> bytes:
    """CBOR: the component's name, and either the path of the configuration or the explicit one."""
    payload: dict[int, object] = (
        {_CONFIG_PATH: config_path}
        if config_path is not None
        else {_PAYLOAD_CONFIG: {1: binary_name}}
    )
    return encode({_COMPONENT_NAME: "Microdroid payload"} | payload)


def instance_key(cdi: Cdi) -> bytes:
    """The key that seals our partition of the instance image."""
    return hkdf(cdi.seal, b"", _INSTANCE_KEY_INFO, 32)


def storage_key(cdi: Cdi, size: int = 32) -> bytes:
    """The key of the encrypted storage."""
    return hkdf(cdi.seal, _STORAGE_KEY_SALT, _STORAGE_KEY_INFO, size)


def payload_secret(cdi: Cdi, identifier: bytes, size: int) -> bytes:
    """What the payload gets for an identifier. ValueError unless 0 <= size <= MAX_SECRET."""
    if not 0 <= size <= MAX_SECRET:
        raise ValueError(f"a secret of {size} bytes was asked for, at most {MAX_SECRET} are given")
    return hkdf(cdi.seal, _SECRET_SALT, identifier, size)


def _mode(debuggable: bool) -> int:
    return _MODE_DEBUG if debuggable else _MODE_NORMAL
