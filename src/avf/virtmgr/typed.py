"""What a VM's owner types: a stream that nobody waits for."""

import errno
import fcntl
import os
import stat

_CHUNK = 4096
_REFUSALS = (errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENOENT)


class Typed:
    """A file, pipe, terminal or socket to read from. `close` lets go of it."""

    def __init__(self, fd: int) -> None:
        """`fd` stays the caller's. Raises OSError if it cannot be read from."""
        mode = os.fstat(fd).st_mode
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if flags & os.O_PATH or flags & os.O_ACCMODE == os.O_WRONLY or stat.S_ISDIR(mode):
            raise OSError(errno.EBADF, "not open for reading")
        self.fd = _opened_anew(fd) if _can_block(mode) else _duplicate(fd)

    def read(self) -> bytes:
        """Some of what is there; empty at the end. Raises OSError: BlockingIOError if there is nothing now."""
        return os.read(self.fd, _CHUNK)

    def close(self) -> None:
        os.close(self.fd)


def _can_block(mode: int) -> bool:
    """Whether another reader could take what was seen to be there. A file goes on where its owner has read to."""
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _opened_anew(fd: int) -> int:
    """Without waiting, and without changing a flag of the giver's."""
    wanted = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{fd}", wanted)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        return _duplicate(fd)


def _duplicate(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
