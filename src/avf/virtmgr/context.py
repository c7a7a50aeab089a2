"""What one VM holds on its host: its CID, its directory, its ends of vsock, the service that its guest calls."""

import contextlib
import fcntl
import logging
import os
from pathlib import Path

from avf.aidl.virtualizationservice_internal import IGlobalVmContext
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.binder import BinderError, FdMode, Server, release
from avf.vsock import HostVsock, HybridVsock, KernelVsock, kernel_vhost_available

log = logging.getLogger(__name__)


class VmContext:
    """Everything is let go of with `close`, which can be called twice."""

    def __init__(self, handle: IGlobalVmContext) -> None:
        """Takes `handle` over. Raises BinderError or OSError."""
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._stack.callback(_release, handle)
            self.cid = handle.get_cid()
            self.temporary_directory = Path(handle.get_temporary_directory())
            self._stack.callback(remove_temporary_files, self.temporary_directory)
            self._stack.callback(os.close, _lock(self.temporary_directory))
            self.vsock = host_vsock(self.cid, self.temporary_directory)
            undo.pop_all()

    def serve(self, service: IVirtualMachineService) -> None:
        """Serves the guest, and it alone, on host port = CID. Raises OSError if the port is taken."""
        listener = self.vsock.listen(self.cid)
        server = Server(
            service,
            fd_modes=frozenset({FdMode.NONE}),
            accept=lambda peer: peer.cid in (None, self.cid),
        )
        self._stack.callback(server.shutdown)
        self._server = server
        server.start(listener)

    def stop_serving(self) -> None:
        """The guest is gone: ends its service, what it had sent having been dealt with."""
        self._server.shutdown()

    def close(self) -> None:
        self._stack.close()


def host_vsock(cid: int, temporary_directory: Path) -> HostVsock:
    """The kernel's vsock where it works, else the one in user space; `$AVF_VSOCK` (kernel, user) decides if set."""
    choice = os.environ.get("AVF_VSOCK")
    if choice == "kernel" or (choice != "user" and kernel_vhost_available()):
        return KernelVsock(cid)
    return HybridVsock(cid, temporary_directory / "vsock.sock")


def remove_temporary_files(directory: Path) -> None:
    """Empties a VM's directory; what cannot be removed is logged."""
    try:
        for path in directory.iterdir():
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
