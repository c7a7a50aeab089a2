"""What an instance's secrets are derived from, after Open DICE and AVF's own derivations.

A guest without a DICE handover (every guest that is not protected) starts from a published constant, as Microdroid does
with its sample values. So secrets differ by instance (by the salt in its image), by signer and by debug level, but the
*host* can compute them: only protected VMs, which need a hypervisor's and a firmware's help, could keep them from it.

Sealed secrets leave out code and configuration, and go by the signers that the instance was made with: an update keeps
them, by a rotated key, too. What is attested, and the secrets of the exact code, go by what runs now.
"""

import hashlib

from avf.guest.cbor import encode
from avf.guest.crypto import hkdf
from avf.guest.identity import PayloadIdentity
from avf.named import NamedTuple

MAX_SECRET = 32

_CDI_SIZE = 32
_NO_HANDOVER = hashlib.sha256(b"AVF for Linux: no DICE handover").digest()
_INSTANCE_KEY_INFO = b"microdroid_manager_key"
_SECRET_SALT = bytes.fromhex("8B0FF0D3B1692B95842C9E3C99567A2255F80823815FF516203EBEBAB7A84392")
_CODE_SALT = bytes.fromhex("3E9C6B70D3B5A6D0A31E1B6C80D0B6F9D74D2B2E5B0A1C6A8F24C7619B5D0E37")
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
    """The payload's layer on top of the agent's. `inputs` is what is attested."""

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
    return DiceInputs(
        hashlib.sha512(b"".join(apk.root_hash for apk in identity.apks)).digest(),
        config_descriptor(config_path, binary_name),
        identity.authority,
        _mode(debuggable),
        identity.salt,
    )


def derive_cdi(parent: Cdi, inputs: DiceInputs, first_authority: bytes | None = None) -> Cdi:
    """The next layer's identity.

    The sealing one leaves out code and configuration, and goes by the authority hash that the instance was made with
    (None: that in `inputs`): updates keep their secrets.
    """
    config_hash = hashlib.sha512(inputs.config_descriptor).digest()
    rest = bytes([inputs.mode]) + inputs.hidden
    attested = inputs.code_hash + config_hash + inputs.authority_hash + rest
    sealed = (first_authority or inputs.authority_hash) + rest
    return Cdi(
        hkdf(parent.attest, hashlib.sha512(attested).digest(), b"CDI_Attest", _CDI_SIZE, "sha512"),
        hkdf(parent.seal, hashlib.sha512(sealed).digest(), b"CDI_Seal", _CDI_SIZE, "sha512"),
    )


def payload_layer(
    parent: Cdi, inputs: DiceInputs, first_authority: bytes | None = None
) -> PayloadLayer:
    """`first_authority`: as of `derive_cdi`."""
    return PayloadLayer(parent, inputs, derive_cdi(parent, inputs, first_authority))


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
    """What the payload gets for an identifier, kept over updates. ValueError unless 0 <= size <= MAX_SECRET."""
    return _secret(cdi.seal, identifier, size)


def code_secret(layer: PayloadLayer, identifier: bytes, size: int) -> bytes:
    """What this code alone gets for an identifier: not another build, signer or configuration. ValueError as above."""
    inputs = layer.inputs
    config_hash = hashlib.sha512(inputs.config_descriptor).digest()
    code = inputs.code_hash + config_hash + inputs.authority_hash
    return _secret(hkdf(layer.cdi.seal, _CODE_SALT, code, 32), identifier, size)


def _secret(key: bytes, identifier: bytes, size: int) -> bytes:
    if not 0 <= size <= MAX_SECRET:
        raise ValueError(f"a secret of {size} bytes was asked for, at most {MAX_SECRET} are given")
    return hkdf(key, _SECRET_SALT, identifier, size)


def _mode(debuggable: bool) -> int:
    return _MODE_DEBUG if debuggable else _MODE_NORMAL
