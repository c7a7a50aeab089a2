"""The file of a listening unix socket: its rights, and what to do if there is one already."""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK_WAIT = 5.0
_MAX_PATH = 107


class SocketFile:
    """The file that a socket was bound to."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        found = os.lstat(path)
        self._identity = found.st_dev, found.st_ino

    def set_mode(self, mode: int) -> None:
        """Also what the umask has taken. Changes no other file that somebody has put there."""
        fd = os.open(self._path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) != self._identity:
                raise FileExistsError(errno.EEXIST, "another file has come there", self._path)
            if stat.S_IMODE(found.st_mode) != mode:
                os.chmod(f"/proc/self/fd/{fd}", mode)
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Unless another server has taken its place. To be called while the socket still listens."""
        try:
            found = os.lstat(self._path)
        except OSError:
            return  # it is not there any more, or not to be reached
        if (found.st_dev, found.st_ino) == self._identity:
            os.unlink(self._path)


def listen_at(path: str, mode: int, backlog: int) -> tuple[socket.socket, SocketFile]:
    """A listening socket at the path, of these rights from the first moment on.

    The socket file of a server that is gone is replaced. Raises FileExistsError for a file of another kind, OSError
    EADDRINUSE for the socket of a server that lives.
    """
    if len(os.fsencode(path)) > _MAX_PATH:
        text = f"the path of a unix socket has at most {_MAX_PATH} bytes"
        raise OSError(errno.ENAMETOOLONG, text, path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(sock.fileno(), mode)  # which `bind` gives to the file, less the umask
        with _only_one(os.path.dirname(path) or "."):
            _remove_stale(path)
            sock.bind(path)
            file = SocketFile(path)
            try:
                file.set_mode(mode)
                sock.listen(backlog)
            except BaseException:
                file.remove()
                raise
        return sock, file
    except BaseException:
        sock.close()
        raise


@contextmanager
def _only_one(directory: str) -> Iterator[None]:
    """One at a time of those that look for a stale socket in the directory, and replace it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        errno.ETIMEDOUT,
                        "another process keeps the directory locked",
                        directory,
                    ) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "there is a file that is no socket", path)
    if _is_served(path):
        raise OSError(errno.EADDRINUSE, "a server listens there", path)
    os.unlink(path)


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # EAGAIN: its queue is full
        return probe.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT)
