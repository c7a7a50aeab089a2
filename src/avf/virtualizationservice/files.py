"""Files of the service's own, in whose place anything may stand after an accident: a pipe, a directory, a link."""

import errno
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

SMALL = 4096
_SAFE = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC

log = logging.getLogger(__name__)


def read_small(path: Path) -> str:
    """The first SMALL bytes of a regular file, as text. Raises OSError; never blocks on what is in its place."""
    with open(path, "rb", opener=_open_regular) as file:
        return file.read(SMALL).decode(errors="replace")


def open_to_append(path: Path) -> int:
    """A descriptor of a regular file, made (0600) if need be. Raises OSError."""
    return _open_regular(os.fspath(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def append(path: Path, data: bytes, limit: int) -> None:
    """Writes `data` at the end of a regular file, made (0600) if need be.

    One that would exceed `limit` bytes becomes `NAME.1` before, over the former one. Raises OSError.
    """
    fd = open_to_append(path)
    try:
        size = os.fstat(fd).st_size
        if size and size + len(data) > limit:
            path.replace(path.with_name(f"{path.name}.1"))
            os.close(fd)
            fd = -1
            fd = open_to_append(path)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        if fd >= 0:
            os.close(fd)


def clear(path: Path) -> None:
    """Makes way for something new at `path`: a directory in its place is renamed, all else removed. Raises OSError."""
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        for number in range(100):
            aside = path.with_name(f"{path.name}.aside{number}")
            if not os.path.lexists(aside):
                path.rename(aside)
                log.warning("%s is a directory; it is now %s", path, aside.name)
                return
        raise


def keep_directory(path: Path) -> None:
    """Makes way for a directory at `path`, unless it is one. Raises OSError."""
    if not _is_kind(path, stat.S_ISDIR):
        clear(path)


def keep_file(path: Path) -> None:
    """Makes way for a regular file at `path`, unless it is one. Raises OSError."""
    if not _is_kind(path, stat.S_ISREG):
        clear(path)


def _is_kind(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Or nothing is there."""
    try:
        return is_kind(path.lstat().st_mode)
    except FileNotFoundError:
        return True


def _open_regular(path: str, flags: int) -> int:
    fd = os.open(path, flags | _SAFE, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a regular file", path)
    return fd
