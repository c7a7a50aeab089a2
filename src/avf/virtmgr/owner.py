"""Who asked for a VM's console or log, and gets every byte of it, at its own pace; a file gets FILE_LIMIT bytes."""

import errno
import fcntl
import os
import select
import stat
from contextlib import suppress

PENDING_LIMIT = 64 << 10
FILE_LIMIT = 256 << 20
"""How much one VM writes to a regular file that it was given for its console or its log."""
FILE_FULL = b"\r\n[this file takes no more of the VM's output]\r\n"
_PIECE = select.PIPE_BUF
"""What a pipe with room takes without blocking, even if it is set to block (pipe(7))."""
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO)
"""How a pipe, a socket and a terminal end whose other side has gone."""
_REFUSALS = (errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENOENT, errno.ETXTBSY)


class Owner:
    """The other end of a stream: a file, a pipe or a terminal. Bytes wait here until it takes them."""

    def __init__(self, fd: int) -> None:
        """`fd` stays the caller's: it is opened anew, so that no flag of the giver's changes. Raises OSError."""
        self.fd = _opened_anew(fd)
        is_file = stat.S_ISREG(os.fstat(self.fd).st_mode)
        self._left: int | None = FILE_LIMIT if is_file else None
        """Bytes it takes yet; None: any number."""
        self.problem = ""
        """Why it lacks some of what it was given; empty if it does not, or if it has gone away by itself."""
        self._pending = bytearray()
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLOUT)

    @property
    def waits(self) -> bool:
        """Whether there is something for it to take."""
        return bool(self._pending)

    @property
    def is_behind(self) -> bool:
        """Whether it has so much to take that it should get no more yet."""
        return len(self._pending) >= PENDING_LIMIT

    def give(self, data: bytes) -> None:
        if self._left is None:
            self._pending += data
        elif self._left >= 0:
            self._pending += data[: self._left]
            self._left -= len(data)
            if self._left < 0:
                self._pending += FILE_FULL
                self.problem = f"the file has {FILE_LIMIT >> 20} MiB of it, and takes no more"

    def flush(self) -> bool:
        """Has it take what it can; False if it takes nothing any more."""
        try:
            while self._pending and self._poll.poll(0):
                del self._pending[: os.write(self.fd, self._pending[:_PIECE])]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in _GONE:
                self.problem = error.strerror or str(error)
            self._pending.clear()
            return False
        return True

    def close(self) -> None:
        with suppress(OSError):  # what a remote file system may have to say now helps nobody
            os.close(self.fd)


def is_socket(fd: int) -> bool:
    """Raises OSError."""
    return stat.S_ISSOCK(os.fstat(fd).st_mode)


def _opened_anew(fd: int) -> int:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "not open for writing")
    wanted = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{fd}", wanted)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
