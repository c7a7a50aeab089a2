"""Where a guest's serial ports write to: nowhere, a file, pipe or terminal, or a socket."""

import errno
import fcntl
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass

from avf.vmm.base import VmmStartError


@dataclass(frozen=True, slots=True)
class Outlet:
    fd: int | None = None
    """None: nowhere."""
    is_socket: bool = False
    copy: int | None = None
    """A pipe that gets what a socket gets."""

    @property
    def fds(self) -> list[int]:
        return [fd for fd in (self.fd, self.copy) if fd is not None]

    @property
    def named_fds(self) -> list[int]:
        """Those that a VMM opens anew by a name, to write to what is no socket."""
        return [fd for fd in (None if self.is_socket else self.fd, self.copy) if fd is not None]


NOWHERE = Outlet()


def open_outlet(fd: int | None, what: str, stack: ExitStack, *, copy: int | None = None) -> Outlet:
    """A write-only descriptor of our own onto what `fd` shows, so that the VMM changes no flag of the giver's.

    It belongs to `stack`. Where the system refuses to open it anew, and for sockets, `fd` is duplicated, as `copy` is.
    Raises VmmStartError if `fd` is not open for writing or is no stream.
    """
    if fd is None:
        return NOWHERE
    try:
        mode = os.fstat(fd).st_mode
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if stat.S_ISSOCK(mode):
            copied = None if copy is None else _duplicate(copy, stack)
            return Outlet(_duplicate(fd, stack), is_socket=True, copy=copied)
        if flags & os.O_ACCMODE == os.O_RDONLY or stat.S_ISDIR(mode):
            raise VmmStartError(f"the {what} descriptor is not open for writing")
        return Outlet(_keep(stack, _open_for_writing(fd, flags)))
    except OSError as error:
        raise VmmStartError(f"cannot use the {what} descriptor: {error.strerror}") from error


def _open_for_writing(fd: int, flags: int) -> int:
    try:
        wanted = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        opened = os.open(f"/proc/self/fd/{fd}", wanted)
        os.set_blocking(opened, True)
        return opened
    except OSError as error:
        refused = (errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENOENT, errno.ETXTBSY)
        if error.errno not in refused or flags & os.O_ACCMODE != os.O_WRONLY:
            raise
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _duplicate(fd: int, stack: ExitStack) -> int:
    return _keep(stack, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))


def _keep(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd
