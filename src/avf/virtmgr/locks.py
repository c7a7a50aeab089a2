"""Whether somebody uses an image that a VM is to write to: asked before the VMM starts, which knows numbers only.

QEMU holds locks of open file descriptions on bytes from 100 on (block/file-posix.c, RAW_LOCK_PERM_BASE), readers too.
"""

import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from avf.disk import Disk, ImageDisk
from avf.virtmgr.errors import VirtmgrError

_FIRST, _COUNT = 100, 200
_GET_LOCK = 36  # F_OFD_GETLK, which the module fcntl does not name
_LOCK = struct.Struct("@hhqqi4x")
_MAX_SHOWN = 5


def require_unused(disks: Iterable[Disk]) -> None:
    """Raises VirtmgrError, naming the file and who uses it, if a part that is to be written to is in use."""
    for fd, what in _written(disks):
        if _is_locked(fd):
            path = _path(fd)
            raise VirtmgrError(f"{what} {path} is in use by {_users(fd) or 'another program'}")


def _written(disks: Iterable[Disk]) -> Iterator[tuple[int, str]]:
    for disk in disks:
        if isinstance(disk, ImageDisk):
            if disk.writable:
                yield disk.fd, "the disk image"
        else:
            for partition in disk.partitions:
                if disk.writable and partition.writable:
                    yield partition.fd, f"the image of partition {partition.label!r},"


def _is_locked(fd: int) -> bool:
    wanted = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _FIRST, _COUNT, 0)
    try:
        found = fcntl.fcntl(fd, _GET_LOCK, wanted)
    except OSError:  # a file system without locks, where the VMM says what there is to say
        return False
    return bool(_LOCK.unpack(found)[0] != fcntl.F_UNLCK)


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115  a link to nowhere, too


def _users(fd: int) -> str:
    """The processes that have the file open, as far as we may see, but for us and our client."""
    wanted, own = os.fstat(fd), (os.getpid(), os.getppid())
    others = [path for path in Path("/proc").iterdir() if path.name.isdecimal()]
    found = [path for path in others if int(path.name) not in own and _has(path, wanted)]
    return ", ".join(f"process {path.name} ({_name(path)})" for path in found[:_MAX_SHOWN])


def _has(process: Path, wanted: os.stat_result) -> bool:
    with suppress(OSError):
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(entry.stat(), wanted):
                    return True
    return False


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "gone"
