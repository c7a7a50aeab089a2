"""Unix socket addresses of any length.

`sun_path` holds 107 bytes; a longer path is reached through /proc/self/fd and its open parent directory.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager

_SUN_PATH_MAX = 107


@contextmanager
def usable(path: str) -> Iterator[str]:
    """An address that means `path` and fits; valid inside the `with`."""
    if len(os.fsencode(path)) <= _SUN_PATH_MAX:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def listen(path: str, *, mode: int, backlog: int) -> socket.socket:
    """A listening stream socket at `path`, which never exists with more rights than `mode`. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The file gets its mode from the socket's inode, less the umask, which belongs to the whole process.
        os.fchmod(sock.fileno(), mode)
        with usable(path) as address:
            sock.bind(address)
        _give_rights(path, mode)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _give_rights(path: str, mode: int) -> None:
    """Gives back what the umask took, to the socket at `path` and nothing it might have been replaced by."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        present = os.fstat(fd).st_mode
        if stat.S_ISSOCK(present) and stat.S_IMODE(present) != mode:
            os.chmod(f"/proc/self/fd/{fd}", mode)  # noqa: PTH101
    finally:
        os.close(fd)
