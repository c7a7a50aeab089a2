"""What a payload asks of the agent, over the agent's unix socket. Payloads in Python import it as `avf_payload`.

import avf_payload
secret = avf_payload.get_vm_instance_secret(b"my key", 32)
avf_payload.notify_payload_ready()
"""

import os
import socket
import threading
from collections.abc import Callable

from avf.aidl.vm_payload import (
    ENCRYPTEDSTORE_MOUNTPOINT,
    VM_APK_CONTENTS_PATH,
    VM_PAYLOAD_SERVICE_SOCKET_NAME,
    IVmPayloadService,
)
from avf.binder import Interface, Peer, Server, Session, connect, unix

SOCKET_PATH = f"/dev/socket/{VM_PAYLOAD_SERVICE_SOCKET_NAME}"
HOST_CID = 2

_lock = threading.Lock()
_session: Session | None = None
_ready_was_told = False


def service() -> IVmPayloadService:
    """The agent's service; the connection is made at the first call and kept."""
    global _session
    with _lock:
        if _session is None:
            _session = connect(unix(SOCKET_PATH))
        return _session.get_root(IVmPayloadService)


def disconnect() -> None:
    """Closes the connection; the next call makes a new one."""
    global _session
    with _lock:
        if _session is not None:
            _session.close()
            _session = None


def notify_payload_ready() -> None:
    """Tells the host that the payload is ready. Only the first call counts."""
    global _ready_was_told
    with _lock:
        if _ready_was_told:
            return
        _ready_was_told = True
    service().notify_payload_ready()


def get_vm_instance_secret(identifier: bytes, size: int = 32) -> bytes:
    """`size` (at most 32) bytes that only this instance gets for this identifier, at every boot the same."""
    return service().get_vm_instance_secret(identifier, size)


def get_apk_contents_path() -> str:
    """Where the contents of the APK are."""
    return VM_APK_CONTENTS_PATH


def get_encrypted_storage_path() -> str | None:
    """Where the encrypted storage is mounted, None if this VM has none."""
    return ENCRYPTEDSTORE_MOUNTPOINT if os.path.exists(ENCRYPTEDSTORE_MOUNTPOINT) else None


def get_dice_attestation_chain() -> bytes:
    """Restricted to payloads with a configuration file in their APK."""
    return service().get_dice_attestation_chain()


def get_dice_attestation_cdi() -> bytes:
    """Restricted to payloads with a configuration file in their APK."""
    return service().get_dice_attestation_cdi()


def run_vsock_rpc_server(
    root: Interface, port: int, on_ready: Callable[[], None] | None = None
) -> None:
    """Serves `root` on a vsock port, to the host alone. Calls `on_ready` once it listens; does not return."""

    def is_host(peer: Peer) -> bool:
        return peer.cid == HOST_CID

    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, port))
    listener.listen()
    if on_ready is not None:
        on_ready()
    Server(root, accept=is_host).serve(listener)
