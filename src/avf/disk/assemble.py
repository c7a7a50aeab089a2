"""Puts a partitioned disk together for crosvm: a composite disk whose parts are inherited descriptors."""

import os
from contextlib import ExitStack
from dataclasses import dataclass

from avf.disk.composite import Component, CompositeDisk
from avf.disk.errors import UnsupportedImage
from avf.disk.files import GRANULE, describe, memory_file, reopen
from avf.disk.gpt import Dialect, partition_table
from avf.disk.image import ImageFormat, attached_format, foreign_format
from avf.disk.layout import check_disk, layout, measure
from avf.disk.model import Disk, ImageDisk


@dataclass(frozen=True, slots=True)
class CrosvmDisk:
    """One `--disk` or `--rwdisk`: `fd` is its image; all of `fds` must be inherited under their numbers."""

    fd: int
    writable: bool
    fds: tuple[int, ...]


def crosvm_disk(
    disk: Disk, name: str, stack: ExitStack, dialect: Dialect = Dialect.CROSVM
) -> CrosvmDisk:
    """Opens everything crosvm needs for `disk`; the descriptors belong to `stack`. Raises DiskError."""
    if isinstance(disk, ImageDisk):
        check_disk(disk)
        _check_start(disk.fd, disk.writable)
        fd = _own(stack, reopen(disk.fd, writable=disk.writable).fd)
        return CrosvmDisk(fd, disk.writable, (fd,))
    plan = layout(disk.partitions, measure(disk.partitions), writable=disk.writable)
    table = partition_table(plan, dialect)
    header = _own(stack, memory_file(f"{name}-header", table.header))
    footer = _own(stack, memory_file(f"{name}-footer", table.footer))
    fds = [header, footer]
    components = [_component(header, 0)]
    filler: int | None = None
    for partition, placement in zip(disk.partitions, plan.placements, strict=True):
        _check_start(partition.fd, partition.writable)
        fd = _own(stack, reopen(partition.fd, writable=placement.writable).fd)
        fds.append(fd)
        components.append(_component(fd, placement.offset, placement.writable))
        if placement.size != placement.span:
            if filler is None:
                filler = _own(stack, memory_file(f"{name}-zero", bytes(GRANULE)))
                fds.append(filler)
            components.append(_component(filler, placement.offset + placement.size))
    components.append(_component(footer, plan.footer_offset))
    composite = CompositeDisk(tuple(components), plan.footer_offset + len(table.footer))
    image = _own(stack, memory_file(name, composite.encode()))
    return CrosvmDisk(image, disk.writable, (*fds, image))


def _check_start(fd: int, writable: bool) -> None:
    """crosvm tells every format by the first bytes: it must not get a raw image that begins like another."""
    if attached_format(fd, writable=writable) is ImageFormat.RAW:
        looks = foreign_format(fd)
        if looks is not None:
            raise UnsupportedImage(
                f"{describe(fd)} is a raw image that begins like {looks}: crosvm would take it for that"
            )


def _component(fd: int, offset: int, writable: bool = False) -> Component:
    return Component(f"/proc/self/fd/{fd}", offset, writable)


def _own(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd
