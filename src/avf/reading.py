"""Reading small files that others name: what is no regular file may keep its reader waiting, and is not read."""

import errno
import os
import stat


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Up to `limit` bytes of the regular file at `path`. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            what = os.strerror(code) if stat.S_ISDIR(mode) else "not a regular file"
            raise OSError(code, what, os.fspath(path))
        file = open(fd, "rb")  # noqa: SIM115  it owns the descriptor from here on
    except BaseException:
        os.close(fd)
        raise
    with file:
        return file.read(limit)
