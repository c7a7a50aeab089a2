"""Files in a directory of somebody else are opened without ever entering what is mounted there.

Whoever owns a directory can mount a file system of its own there (FUSE), whose every answer may fail, or never come.
"""

import ctypes
import errno
import functools
import os
import re
import struct
from pathlib import Path

_OPENAT2 = 437
"""The system call's number, the same for all architectures."""
_ALWAYS = os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 1, 2, 4, 8
_RESOLVE = _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
_HOW = struct.Struct("=QQQ")
_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def open_directory(name: str, dir_fd: int) -> int:
    """`open_inside` for a directory that is to be read."""
    return open_inside(name, dir_fd, _DIRECTORY)


def open_inside(name: str, dir_fd: int, flags: int) -> int:
    """Opens `name` in `dir_fd`, which is not a path; links are not followed.

    Raises OSError: EXDEV if something is mounted there, which is then not even asked; else as `os.open` does. On
    kernels before 5.6 there is a moment between looking and opening.
    """
    if "/" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    if _has_openat2():
        return _openat2(name, dir_fd, flags | _ALWAYS)
    if os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), name) in mounts():  # noqa: PTH115, PTH118
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    return os.open(name, flags | _ALWAYS, dir_fd=dir_fd)


def mounts() -> dict[str, int | None]:
    """All mount points that this process sees, by path; for FUSE, who has mounted it. Raises OSError."""
    found = {}
    for line in _MOUNTINFO.read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        path = _ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), before.split(" ")[4])
        user = re.search(r"(?:^|[ ,])user_id=(\d+)", after) if "fuse" in after else None
        found[path] = int(user[1]) if user else None
    return found


def _openat2(name: str, dir_fd: int, flags: int) -> int:
    how = _HOW.pack(flags, 0, _RESOLVE)
    fd: int = _libc().syscall(
        ctypes.c_long(_OPENAT2),
        ctypes.c_int(dir_fd),
        ctypes.c_char_p(os.fsencode(name)),
        ctypes.c_char_p(how),
        ctypes.c_size_t(len(how)),
    )
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return fd


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def _has_openat2() -> bool:
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        os.close(_openat2(".", root, _DIRECTORY | _ALWAYS))
    except OSError:
        return False
    finally:
        os.close(root)
    return True
