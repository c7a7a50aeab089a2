"""Files that others name or hand over: each must be what its field is for, and none may keep us waiting.

A path can come out of an APK that nobody has verified, and a descriptor from a client: behind either may be a FIFO, a
device or a socket, where an open or a read blocks or does something.
"""

import fcntl
import os
import stat
from typing import Literal

from avf.aidl.vm_control import Refusal
from avf.virtmgr.errors import VirtmgrError

_KINDS = {
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
}


def open_regular(path: str | os.PathLike[str], what: str, flags: int = os.O_RDONLY) -> int:
    """Opens the regular file at `path`; anything else is not even opened. Raises VirtmgrError, which says `what`."""
    wanted = flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    message = f"Failed to open {what} {os.fspath(path)}"
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        raise _unusable(message) from e
    try:
        require_regular(place, "the file")
        fd = os.open(f"/proc/self/fd/{place}", wanted)
    except OSError as e:
        raise _unusable(message) from OSError(e.errno, e.strerror)
    except VirtmgrError as e:
        raise _unusable(message) from e
    finally:
        os.close(place)
    os.set_blocking(fd, True)
    return fd


def require_regular(fd: int, what: str) -> None:
    """Raises VirtmgrError unless `fd` shows a regular file."""
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        raise _unusable(f"{what} is {kind_of(mode)}, not a regular file")


def require_readable(fd: int, what: str) -> None:
    """Raises VirtmgrError unless `fd` shows a regular file or a block device and is open for reading."""
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise _unusable(f"{what} is {kind_of(mode)}, not a regular file or block device")
    require_open(fd, what, "reading")


def require_writable(fd: int, what: str) -> None:
    """Raises VirtmgrError unless `fd` shows a regular file or a block device and is open for writing."""
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise _unusable(f"{what} is {kind_of(mode)}, not a regular file or block device")
    require_open(fd, what, "writing")


def require_open(fd: int, what: str, use: Literal["reading", "writing"]) -> None:
    """Raises VirtmgrError unless `fd` is open for that."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    refused = os.O_WRONLY if use == "reading" else os.O_RDONLY
    if flags & os.O_PATH or flags & os.O_ACCMODE == refused:
        raise _unusable(f"{what} is not open for {use}")


def _unusable(message: str) -> VirtmgrError:
    return VirtmgrError(message, Refusal.FILE_UNUSABLE)


def kind_of(mode: int) -> str:
    """The kind of a file of that mode, for people."""
    return _KINDS.get(stat.S_IFMT(mode), "no file")
