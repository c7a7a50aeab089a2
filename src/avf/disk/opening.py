"""Opens images and disks for reading, by format."""

import os
from contextlib import ExitStack
from pathlib import Path

from avf.disk.composite import CompositeDisk, read_composite
from avf.disk.errors import ImageError, UnsupportedImage
from avf.disk.files import describe
from avf.disk.gpt import Dialect, partition_table
from avf.disk.image import ImageFormat, attached_format, attached_size, image_format, image_size
from avf.disk.layout import layout, measure
from avf.disk.model import Disk, ImageDisk
from avf.disk.qcow2_reader import Qcow2Reader
from avf.disk.reader import AssembledReader, BytesReader, ImageReader, RawReader, Section


def open_image(fd: int, *, directory: Path | None = None) -> ImageReader:
    """A reader of the raw, QCOW2 or composite image in `fd`, which stays the caller's and must stay open.

    A composite names other files, so it is refused unless `directory` says where it lies: then its parts, none of
    them composites, are opened for reading, wherever they are. Raises ImageError.
    """
    image_size(fd)
    match image_format(fd):
        case ImageFormat.RAW:
            return RawReader(fd)
        case ImageFormat.QCOW2:
            return Qcow2Reader(fd)
        case ImageFormat.COMPOSITE:
            if directory is None:
                raise UnsupportedImage(f"{describe(fd)}: a composite disk consists of other files")
            return _open_composite(describe(fd), read_composite(fd), directory)


def open_disk(disk: Disk, dialect: Dialect = Dialect.STRICT) -> ImageReader:
    """A reader of a disk as a VM would see it, without a VMM; the table's identities are new each time.

    The descriptors stay the caller's and must stay open. Raises DiskError.
    """
    if isinstance(disk, ImageDisk):
        return _attached(disk.fd, disk.writable)
    plan = layout(disk.partitions, measure(disk.partitions), writable=disk.writable)
    table = partition_table(plan, dialect)
    sections = [Section(0, BytesReader("header", table.header))]
    for partition, placement in zip(disk.partitions, plan.placements, strict=True):
        reader = _attached(partition.fd, partition.writable)
        sections.append(Section(placement.offset, reader))
    sections.append(Section(plan.footer_offset, BytesReader("footer", table.footer)))
    return AssembledReader("disk", plan.footer_offset + len(table.footer), sections)


def _attached(fd: int, writable: bool) -> ImageReader:
    attached_size(fd, writable=writable)
    raw = attached_format(fd, writable=writable) is ImageFormat.RAW
    return RawReader(fd) if raw else Qcow2Reader(fd)


def _open_composite(name: str, disk: CompositeDisk, directory: Path) -> ImageReader:
    parts: dict[Path, _OwningReader] = {}
    sections = []
    with ExitStack() as stack:
        ends = [*(component.offset for component in disk.components[1:]), disk.length]
        for component, end in zip(disk.components, ends, strict=True):
            path = disk.locate(component, directory)
            if path not in parts:
                parts[path] = stack.enter_context(_OwningReader(_open(name, path)))
            part, needed = parts[path], component.file_offset + end - component.offset
            if part.size < needed:
                raise ImageError(f"{name}: {path} has {part.size} bytes, {needed} are needed")
            sections.append(Section(component.offset, part, component.file_offset))
        stack.pop_all()
    return AssembledReader(name, disk.length, sections)


def _open(composite: str, path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"{composite}: cannot open {str(path)!r}: {reason}") from error


class _OwningReader(ImageReader):
    """A reader of the image in a descriptor of its own, which it closes."""

    def __init__(self, fd: int) -> None:
        try:
            self._image = open_image(fd)
        except BaseException:
            os.close(fd)
            raise
        super().__init__(self._image.name, self._image.size)
        self._fd = fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def next_data(self, offset: int) -> int:
        return self._image.next_data(offset)

    def _read(self, offset: int, size: int) -> bytes:
        return self._image.pread(size, offset)
