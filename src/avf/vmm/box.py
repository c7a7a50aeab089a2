"""The sandbox of a virtual machine monitor: what its VM needs, and no more."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from avf.confine import Limits
from avf.disk import Disk, ImageDisk, image_size, measure

FIRST_UID = 0x7000_0000
"""A VM's uid is this plus its CID. Nobody has the uids up to 0x7FFF_FFFF (systemd, "Users, Groups, UIDs and GIDs")."""
MAPS = Path("/proc/self")
_SPARE_DESCRIPTORS = 128
_SPARE_BYTES = 64 << 20
"""Beside a guest's memory in its dump, and for the tables of a QCOW2 image."""


def uid_of(cid: int) -> int | None:
    """What the processes of the VM with that CID run as where root starts them.

    None in a user namespace without that uid, as of a container: they stay root of the namespace, without capabilities.
    """
    uid = FIRST_UID + cid
    return uid if _is_here("uid_map", uid) and _is_here("gid_map", uid) else None


def _is_here(name: str, number: int) -> bool:
    """Whether this user namespace has a user or a group of that number."""
    ranges = (line.split() for line in (MAPS / name).read_text().splitlines())
    return any(int(first) <= number < int(first) + int(count) for first, _, count in ranges)


def identity_for(cid: int, devices: Iterable[Path]) -> tuple[int | None, tuple[int, ...]]:
    """The uid, and the groups besides, with which a VM's process may open those devices where root starts it.

    (None, ()) if no other uid than root may open one of them, or if there is no such uid here.
    """
    if (uid := uid_of(cid)) is None:
        return None, ()
    groups = set()
    for device in devices:
        status = device.stat()
        if status.st_mode & 0o006 == 0o006:
            continue
        if status.st_mode & 0o060 != 0o060 or not status.st_gid:
            return None, ()
        groups.add(status.st_gid)
    return uid, tuple(sorted(groups))


def limits_for(
    fds: Iterable[int], sizes: Iterable[int], *, spare_descriptors: int = _SPARE_DESCRIPTORS
) -> Limits:
    """`fds`: what the VMM inherits; `sizes`: bytes of memory files and virtual disks. There is one limit for all files:
    the largest of them, and a little more. `spare_descriptors`: what the VMM opens itself.
    """
    given = list(fds)
    largest = max([*sizes, *(_size(fd) for fd in given)], default=0)
    return Limits(2 * len(given) + spare_descriptors, largest + largest // 64 + _SPARE_BYTES)


def virtual_sizes(disks: Iterable[Disk]) -> list[int]:
    """In bytes, of every image. Raises DiskError."""
    sizes: list[int] = []
    for disk in disks:
        sizes += [image_size(disk.fd)] if isinstance(disk, ImageDisk) else measure(disk.partitions)
    return sizes


def _size(fd: int) -> int:
    status = os.fstat(fd)
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
