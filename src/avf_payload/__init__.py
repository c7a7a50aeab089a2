"""For payloads in Python: notify_payload_ready(), get_vm_instance_secret() and the rest of the vm_payload API.

Also makes `avf.binder` importable, so that a payload can serve its own interfaces with run_vsock_rpc_server().
"""

import avf_bundle  # type: ignore[import-not-found]

avf_bundle.install()

from avf.guest.payload_client import (  # noqa: E402
    get_apk_contents_path,
    get_dice_attestation_cdi,
    get_dice_attestation_chain,
    get_encrypted_storage_path,
    get_vm_instance_secret,
    notify_payload_ready,
    run_vsock_rpc_server,
)

__all__ = [
    "get_apk_contents_path",
    "get_dice_attestation_cdi",
    "get_dice_attestation_chain",
    "get_encrypted_storage_path",
    "get_vm_instance_secret",
    "notify_payload_ready",
    "run_vsock_rpc_server",
]
