"""Disks whose images stay open although whoever gave them has closed them."""

import os
from contextlib import ExitStack
from dataclasses import replace

from avf.disk import Disk, ImageDisk


class KeptDisks:
    """The same disks by descriptors of their own."""

    def __init__(self, disks: tuple[Disk, ...]) -> None:
        """Raises OSError."""
        with ExitStack() as stack:
            self.disks = tuple(_kept(disk, stack) for disk in disks)
            self._stack = stack.pop_all()

    def copy(self) -> "KeptDisks":
        """Raises OSError."""
        return KeptDisks(self.disks)

    def close(self) -> None:
        """Idempotent."""
        self._stack.close()


def _kept(disk: Disk, stack: ExitStack) -> Disk:
    if isinstance(disk, ImageDisk):
        return replace(disk, fd=_dup(disk.fd, stack))
    parts = tuple(replace(part, fd=_dup(part.fd, stack)) for part in disk.partitions)
    return replace(disk, partitions=parts)


def _dup(fd: int, stack: ExitStack) -> int:
    copy = os.dup(fd)
    stack.callback(os.close, copy)
    return copy
