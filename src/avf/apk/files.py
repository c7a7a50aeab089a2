"""The files that the command is given: opened without waiting, read within bounds, named in every error."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avf.apk.errors import ApkError, InputError

_MAX_SMALL = 4 << 20


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor for reading of a regular file or block device; InputError for anything else.

    An ApkError that leaves the block and names no file names this one.
    """
    with about(path):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
            if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
                raise InputError("input is not a regular file")
            yield fd
        finally:
            os.close(fd)


def read_small(path: Path) -> bytes:
    """A key, certificate or lineage, from a file or a pipe; InputError if it has more than 4 MiB."""
    with about(path), path.open("rb") as file:
        data = file.read(_MAX_SMALL + 1)
        if len(data) > _MAX_SMALL:
            raise InputError(f"the file has more than {_MAX_SMALL} bytes")
        return data


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Name `path` in the errors of the block that name no file."""
    try:
        yield
    except ApkError as error:
        error.file = error.file or os.fspath(path)
        raise
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Name `path` in errors of the block that only writing meets: there is no room, or too little is allowed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = error.filename or os.fspath(path)
        raise
