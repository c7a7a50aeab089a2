"""What a payload in Python may ask of its guest: AVF's vm_payload API.

    import avf_payload

    key = avf_payload.get_vm_instance_secret(b"disk key")
    avf_payload.notify_payload_ready()

Every guest has this module. It makes `avf.binder` importable there, so that a payload can serve its own interfaces with
`run_vsock_rpc_server`. On a developer's host it is there for editors, type checkers and tests: it can be imported, but
its functions raise NotInGuestError.

Every function raises NotInGuestError outside a guest, `avf.binder.BinderError` if the agent's answer is an error, and
OSError if the agent takes no more connections. All may be called from any thread.
"""

try:
    import avf_bundle  # type: ignore[import-not-found]
except ModuleNotFoundError:
    pass  # not a guest
else:
    avf_bundle.install(ours_only=True)

from avf.guest.payload_client import (
    NotInGuestError,
    get_apk_contents_path,
    get_clone_number,
    get_dice_attestation_cdi,
    get_dice_attestation_chain,
    get_encrypted_storage_path,
    get_vm_code_secret,
    get_vm_instance_secret,
    notify_payload_ready,
    on_clone,
    run_vsock_rpc_server,
)

__all__ = [
    "NotInGuestError",
    "get_apk_contents_path",
    "get_clone_number",
    "get_dice_attestation_cdi",
    "get_dice_attestation_chain",
    "get_encrypted_storage_path",
    "get_vm_code_secret",
    "get_vm_instance_secret",
    "notify_payload_ready",
    "on_clone",
    "run_vsock_rpc_server",
]
