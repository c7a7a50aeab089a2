"""What a payload asks of the agent, over the agent's unix socket. Payloads in Python import it as `avf_payload`."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from avf.aidl.vm_payload import IVmPayloadService
from avf.binder import ExceptionCode, Interface, Peer, RemoteException, Server, connect, unix

SOCKET_PATH = f"/dev/socket/{IVmPayloadService.VM_PAYLOAD_SERVICE_SOCKET_NAME}"
HOST_CID = 2

_PORT_ANY = 0xFFFF_FFFF

_lock = threading.Lock()
_ready_was_told = False


class NotInGuestError(RuntimeError):
    """The program does not run inside a virtual machine as a payload."""


@contextmanager
def _service() -> Iterator[IVmPayloadService]:
    """The agent's service, for one call: a payload that forks has neither a connection nor a thread of ours.

    Raises NotInGuestError, OSError if the agent takes no more connections.
    """
    _check_guest()
    with connect(unix(SOCKET_PATH)) as session:
        yield session.get_root(IVmPayloadService)


def notify_payload_ready() -> None:
    """Tells the payload's owner that it is ready. Only the first call counts."""
    global _ready_was_told
    _check_guest()
    with _lock:
        if _ready_was_told:
            return
        _ready_was_told = True
    with _service() as service:
        service.notify_payload_ready()


def get_vm_instance_secret(identifier: bytes, size: int = 32) -> bytes:
    """`size` (at most 32) bytes that this instance alone gets for this identifier, at every boot the same.

    They stay the same when the payload is updated, also by a signer whose key was rotated.
    Raises RemoteException (ILLEGAL_ARGUMENT) for another size.
    """
    with _service() as service:
        return service.get_vm_instance_secret(identifier, size)


def get_vm_code_secret(identifier: bytes, size: int = 32) -> bytes:
    """`size` (at most 32) bytes that only this instance gets for this identifier, and only with this very code.

    Another build of the APK or of an extra APK, another signer, or another configuration gets other bytes; after going
    back to the same ones, the same. The guest image does not count.
    """
    with _service() as service:
        return service.get_vm_code_secret(identifier, size)


def on_clone(callback: Callable[[int], None]) -> None:
    """Has `callback` called, in a thread of its own, in every clone of this running VM: with the clone's number.

    Numbers count from 1; no other clone of the same VM has it. When the callback is called, the clone's random numbers,
    boot ID, clock and CID are its own already; what this process made of earlier ones is not: seeds, keys, identifiers,
    nonces. Connections over vsock have ended, listeners go on. The rest of the payload may run on before it.

    Does nothing in a VM that cannot be forked.
    """
    _check_guest()
    threading.Thread(target=_wait_for_clone, args=(callback,), name="on-clone", daemon=True).start()


def get_clone_number() -> int:
    """0 in a VM that was started; in a clone of a running VM its number, as `on_clone` tells it."""
    with _service() as service:
        return service.get_clone_number()


def _wait_for_clone(callback: Callable[[int], None]) -> None:
    try:
        with _service() as service:
            number = service.wait_until_cloned()
    except RemoteException as error:
        if error.code is not ExceptionCode.UNSUPPORTED_OPERATION:
            raise
        return
    callback(number)


def get_apk_contents_path() -> str:
    """The directory with the contents of the payload's APK."""
    _check_guest()
    return IVmPayloadService.VM_APK_CONTENTS_PATH


def get_encrypted_storage_path() -> str | None:
    """The directory of the encrypted storage, None if this VM has none."""
    _check_guest()
    mountpoint = IVmPayloadService.ENCRYPTEDSTORE_MOUNTPOINT
    return mountpoint if os.path.exists(mountpoint) else None


def get_dice_attestation_chain() -> bytes:
    """The payload's certificate chain: CBOR, an array of the agent's COSE_Key and a COSE_Sign1 certificate.

    Raises RemoteException (SECURITY) for a payload without a configuration file in its APK.
    """
    with _service() as service:
        return service.get_dice_attestation_chain()


def get_dice_attestation_cdi() -> bytes:
    """The secret behind the certificate: CDI_Attest, 32 bytes.

    Raises RemoteException (SECURITY) for a payload without a configuration file in its APK.
    """
    with _service() as service:
        return service.get_dice_attestation_cdi()


def run_vsock_rpc_server(
    root: Interface, port: int, on_ready: Callable[[], None] | None = None
) -> None:
    """Serves `root` over RPC Binder on a vsock port, to the host alone. Does not return.

    Calls `on_ready` once the port is open. Each session has a thread, so methods may run at the same time. Raises
    ValueError for what is no port, PermissionError for one below 1024, OSError for one that is in use.
    """
    _check_guest()
    if not 0 <= port < _PORT_ANY:
        raise ValueError(f"{port} is no vsock port")
    listener = listen(port)
    if on_ready is not None:
        on_ready()
    Server(root, accept=is_host).serve(listener)


def listen(port: int) -> socket.socket:
    """Raises OSError."""
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        listener.bind((socket.VMADDR_CID_ANY, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"vsock port {port}: {error.strerror}") from None
    return listener


def is_host(peer: Peer) -> bool:
    return peer.cid == HOST_CID


def _check_guest() -> None:
    if not os.path.exists(SOCKET_PATH):
        raise NotInGuestError(
            f"there is no {SOCKET_PATH}: avf_payload works in a payload only, inside a virtual machine"
        )
