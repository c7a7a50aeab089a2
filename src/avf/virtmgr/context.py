"""What one VM holds on its host: its CID, its directory, its ends of vsock, the service that its guest calls."""

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from avf import settings
from avf.aidl.virtualizationservice_internal import IGlobalVmContext
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.aidl.vm_control import IVmControl
from avf.binder import BinderError, Budget, FdMode, Limits, Rate, Server, nobody, release
from avf.vsock import HostVsock, HybridVsock, KernelVsock, kernel_vhost_available

GUEST_CONNECTIONS = 16
GUESTS = Budget(
    party=Limits(connections=GUEST_CONNECTIONS, descriptors=0, memory=4 << 20),
    total=Limits(connections=2048, descriptors=0, memory=64 << 20),
    calls=Rate(burst=200, per_second=50),
    arrivals=Rate(burst=16, per_second=2),
    refusals=Rate(burst=16, per_second=10),
    privileged=nobody,
)
"""What the guests of this process may take. One needs a connection or two and makes a dozen calls in its life; it must
neither hold up its client's other VMs nor fill the memory that they share."""
CONTROLLERS = Limits(connections=32, descriptors=512, memory=8 << 20)
"""For each user who looks into a VM: its owner and root."""
ALL_CONTROLLERS = Limits(connections=80, descriptors=1280, memory=20 << 20)
GUEST_FRAME_SECONDS = 120.0
"""For a guest under emulation; and one that is stopped in the middle of a frame, which the guest's agent sends as one
packet, is not waited for any longer either."""
CONTROL_FRAME_SECONDS = 30.0

log = logging.getLogger(__name__)


class VmContext:
    """Everything is let go of with `close`, which can be called twice."""

    def __init__(self, handle: IGlobalVmContext, *, in_user_space: bool = False) -> None:
        """Takes `handle` over. `in_user_space`: its vsock is, whatever else could be. Raises BinderError or OSError."""
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._stack.callback(_release, handle)
            self.cid = handle.get_cid()
            self.temporary_directory = Path(handle.get_temporary_directory())
            self._stack.callback(remove_temporary_files, self.temporary_directory)
            self._directory_fd = _lock(self.temporary_directory)
            self._stack.callback(os.close, self._directory_fd)
            self.vsock = host_vsock(self.cid, self.temporary_directory, in_user_space=in_user_space)
            undo.pop_all()

    def serve(self, service: IVirtualMachineService) -> None:
        """Serves the guest, and it alone, on host port = CID. Raises OSError (EADDRINUSE if the port is taken)."""
        listener = self.vsock.listen(self.cid)
        server = Server(
            service,
            fd_modes=frozenset({FdMode.NONE}),
            accept=lambda peer: peer.cid in (None, self.cid),
            frame_timeout=GUEST_FRAME_SECONDS,
            party=lambda peer: f"guest {self.cid}",
            budget=GUESTS,
        )
        self._stack.callback(server.shutdown)
        self._server = server
        server.start(listener)

    def serve_control(self, control: IVmControl) -> None:
        """Serves those who may use this directory: the user, and root. A failure is logged, for a VM runs without."""
        try:
            listener = self.listen(IVmControl.CONTROL_SOCKET_NAME)
        except OSError as e:
            log.warning("the VM with CID %d cannot be controlled from outside: %s", self.cid, e)
            return
        server = Server(
            control,
            fd_modes=frozenset({FdMode.UNIX}),
            accept=lambda peer: peer.uid in (0, os.getuid()),
            frame_timeout=CONTROL_FRAME_SECONDS,
            budget=Budget(party=CONTROLLERS, total=ALL_CONTROLLERS, privileged=nobody),
        )
        self._stack.callback(server.shutdown)
        server.start(listener)

    def listen(self, name: str) -> socket.socket:
        """A unix socket of that name in the directory, for its owner alone. Raises OSError.

        It is bound by the directory's descriptor, since a unix socket's path must be short.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(f"/proc/self/fd/{self._directory_fd}/{name}")
            listener.listen()
        except OSError:
            listener.close()
            raise
        return listener

    def connect(self, name: str) -> socket.socket:
        """A connection to the unix socket of that name in the directory, made without waiting. Raises OSError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(f"/proc/self/fd/{self._directory_fd}/{name}")
        except OSError:
            sock.close()
            raise
        return sock

    def stop_serving(self) -> None:
        """The guest is gone: ends its service, what it had sent having been dealt with."""
        self._server.shutdown()

    def on_close(self, function: Callable[[], None]) -> None:
        """Has `function` called when the context is closed."""
        self._stack.callback(function)

    def close(self) -> None:
        self._stack.close()


def host_vsock(cid: int, temporary_directory: Path, *, in_user_space: bool = False) -> HostVsock:
    """The kernel's vsock where it works, else the one in user space; `$AVF_VSOCK` (kernel, user) decides if set, unless
    it must be `in_user_space`.

    Raises SettingError.
    """
    choice = "user" if in_user_space else settings.vsock()
    if choice == "kernel" or (choice != "user" and kernel_vhost_available()):
        return KernelVsock(cid)
    return HybridVsock(cid, temporary_directory / "vsock.sock")


def remove_temporary_files(directory: Path, keep: frozenset[str] = frozenset()) -> None:
    """Empties a VM's directory but for what to `keep`; what cannot be removed is logged."""
    try:
        for path in directory.iterdir():
            if path.name not in keep:
                path.unlink()
    except FileNotFoundError:
        pass
    except OSError as e:
        log.error("cannot remove the temporary files in %s: %s", directory, e)


def _lock(directory: Path) -> int:
    """The sign of life by which a restarted virtualizationservice knows that this VM still exists."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _release(handle: IGlobalVmContext) -> None:
    try:
        release(handle)
    except BinderError as e:
        log.debug("virtualizationservice is gone already: %s", e)
