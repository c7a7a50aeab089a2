"""A partitioned disk as QEMU block nodes: one vmdk node whose extents are the partition table and the images.

Nothing is copied and no helper runs. Every file is reached as `/dev/fdset/N` (N is the descriptor's own number), and
every node names its format, so QEMU never guesses one.

Read-only partitions of a writable disk lie behind an overlay: an empty QCOW2 image in memory whose file cannot grow,
so that reads fall through and any write fails in the guest with EIO, as under crosvm.

What QEMU demands (block/vmdk.c, block/file-posix.c): extents are plain absolute paths, with their options given as
`extents.N.*`; a blank line before the first extent would add it twice; a descriptor in an fdset must have exactly
the access mode the node asks for; the descriptor file is rewritten (its CID) on the first write.
"""

import fcntl
import os
from contextlib import ExitStack
from dataclasses import dataclass, field

from avf.disk import qcow2
from avf.disk.errors import ImageError
from avf.disk.files import align_up, describe, memory_file, reopen
from avf.disk.gpt import Dialect, partition_table
from avf.disk.image import ImageFormat, attached_format
from avf.disk.layout import SECTOR, check_disk, layout, measure
from avf.disk.model import Disk, ImageDisk, PartitionedDisk

Node = dict[str, object]
"""Options of one block node, as QEMU's JSON forms take them."""


@dataclass(slots=True)
class QemuDisk:
    """The nodes of one disk. The descriptors belong to the stack that `qemu_disk` was given."""

    name: str
    """Node name of the disk; the drive, if there is one, is `NAME-drive`."""
    writable: bool
    format: ImageFormat | None
    """Of a disk that is one image; None for a partitioned one."""
    fds: list[int] = field(default_factory=list)
    """To be inherited, each as the fdset of its own number."""
    blockdevs: list[Node] = field(default_factory=list)
    """For `-blockdev`, in order."""
    drive: Node | None = None
    """For `-drive file=json:`; None: the last of `blockdevs` is the disk."""


def qemu_disk(disk: Disk, name: str, stack: ExitStack) -> QemuDisk:
    """Opens everything QEMU needs for `disk`. Raises DiskError; what was opened till then is the stack's."""
    if isinstance(disk, ImageDisk):
        return _Builder(name, disk.writable, stack).image(disk)
    return _Builder(name, disk.writable, stack).partitioned(disk)


def fdset_path(fd: int) -> str:
    """The path by which QEMU opens the descriptor set with that number."""
    return f"/dev/fdset/{fd}"


@dataclass(frozen=True, slots=True)
class _Extent:
    fd: int
    sectors: int
    options: Node


class _Builder:
    def __init__(self, name: str, writable: bool, stack: ExitStack) -> None:
        self._stack = stack
        self._disk = QemuDisk(name, writable, None)

    def image(self, disk: ImageDisk) -> QemuDisk:
        check_disk(disk)
        driver = attached_format(disk.fd, writable=disk.writable)
        fd, locking = self._reopen(disk.fd, disk.writable)
        node = _format_node(driver, _file_node(fd, disk.writable) | locking, disk.writable)
        self._disk.format = driver
        self._disk.blockdevs.append({"node-name": self._disk.name, **node})
        return self._disk

    def partitioned(self, disk: PartitionedDisk) -> QemuDisk:
        plan = layout(disk.partitions, measure(disk.partitions), writable=disk.writable)
        table = partition_table(plan, Dialect.STRICT)
        extents = [self._constant("header", table.header)]
        for index, (partition, placement) in enumerate(
            zip(disk.partitions, plan.placements, strict=True)
        ):
            driver = attached_format(partition.fd, writable=partition.writable)
            extents.append(
                self._partition(
                    f"part{index}", partition.fd, driver, placement.span, placement.writable
                )
            )
        extents.append(self._constant("footer", table.footer))
        self._add_drive(extents)
        return self._disk

    def _constant(self, part: str, content: bytes) -> _Extent:
        """An extent of bytes that are ours."""
        name = f"{self._disk.name}-{part}"
        file = memory_file(name, content)
        try:
            fd = reopen(file, writable=False).fd
        finally:
            os.close(file)
        self._own(fd)
        return self._read_only(name, fd, {}, ImageFormat.RAW, len(content))

    def _partition(
        self, part: str, image: int, driver: ImageFormat, span: int, writable: bool
    ) -> _Extent:
        fd, locking = self._reopen(image, writable)
        if writable:
            return _extent(fd, locking, driver, span)
        return self._read_only(f"{self._disk.name}-{part}", fd, locking, driver, span)

    def _read_only(
        self, name: str, fd: int, locking: Node, driver: ImageFormat, span: int
    ) -> _Extent:
        """The file itself on a read-only disk, an overlay that takes no writes on a writable one."""
        if not self._disk.writable:
            return _extent(fd, locking, driver, span)
        node = _format_node(driver, _file_node(fd, False) | locking, False)
        self._disk.blockdevs.append({"node-name": name, **node})
        overlay = memory_file(f"{name}-overlay")
        self._own(overlay)
        qcow2.create_qcow2(overlay, span)
        options: Node = {
            "driver": "qcow2",
            "backing": name,
            "file.driver": "raw",
            "file.size": os.fstat(overlay).st_size,
        }
        return _Extent(overlay, span // SECTOR, options)

    def _add_drive(self, extents: list[_Extent]) -> None:
        name, writable = self._disk.name, self._disk.writable
        descriptor = memory_file(f"{name}-descriptor", _descriptor(extents))
        if writable:
            self._own(descriptor)
        else:
            try:
                descriptor_fd = reopen(descriptor, writable=False).fd
            finally:
                os.close(descriptor)
            descriptor = descriptor_fd
            self._own(descriptor)
        file = f"{name}-descriptor"
        self._disk.blockdevs.append({"node-name": file, **_file_node(descriptor, writable)})
        drive: Node = {
            "driver": "vmdk",
            "node-name": name,
            "read-only": not writable,
            "auto-read-only": False,
            "file": file,
        }
        for index, extent in enumerate(extents):
            for key, value in extent.options.items():
                drive[f"extents.{index}.{key}"] = value
        self._disk.drive = drive

    def _reopen(self, fd: int, writable: bool) -> tuple[int, Node]:
        opened = reopen(fd, writable=writable)
        self._own(opened.fd)
        if opened.own_description:
            return opened.fd, {}
        _lock(opened.fd, writable)
        return opened.fd, {"locking": "off"}

    def _own(self, fd: int) -> None:
        self._stack.callback(os.close, fd)
        self._disk.fds.append(fd)


def _extent(fd: int, locking: Node, driver: ImageFormat, span: int) -> _Extent:
    """An extent that is the file itself."""
    options: Node = {"driver": driver.value}
    if driver is ImageFormat.QCOW2:
        options["backing"] = None
    options |= {f"file.{key}": value for key, value in locking.items()}
    return _Extent(fd, span // SECTOR, options)


def _format_node(driver: ImageFormat, file: Node, writable: bool) -> Node:
    node: Node = {"driver": driver.value, "read-only": not writable, "file": file}
    if driver is ImageFormat.QCOW2:
        node["backing"] = None
    return node


def _file_node(fd: int, writable: bool) -> Node:
    return {"driver": "file", "filename": fdset_path(fd), "read-only": not writable}


def _lock(fd: int, writable: bool) -> None:
    """Stands in for QEMU's own locks, which would not hold between sharers of one open file description."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ImageError(f"{describe(fd)} is in use by another virtual machine") from error


def _descriptor(extents: list[_Extent]) -> bytes:
    """The vmdk descriptor file, padded so that QEMU can rewrite its CID in place.

    With one line: QEMU scans the rest of the file for each, which took it 3 ms for one that ended with 4000 empty ones.
    """
    lines = [
        "# Disk DescriptorFile",
        "version=1",
        "CID=fffffffe",
        "parentCID=ffffffff",
        'createType="twoGbMaxExtentFlat"',
        "# Extent description",
        *(f'RW {extent.sectors} FLAT "{fdset_path(extent.fd)}" 0' for extent in extents),
    ]
    text = "\n".join(lines) + "\n"
    return text.encode().ljust(align_up(len(text) + 2) - 1, b"#") + b"\n"
