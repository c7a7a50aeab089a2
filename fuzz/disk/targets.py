"""What each target does with one input, which is any bytes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from unittest import mock

from avf.disk import (
    DiskError,
    ImageReader,
    MetadataPartition,
    TableCopy,
    check_qcow2,
    image_size,
    open_image,
    open_partition,
    read_composite,
    read_instance,
    read_partition_table,
    read_payload,
    report,
    store_state,
    unseal,
)
from avf.disk.composite import MAGIC
from avf.disk.reader import BytesReader

PIECE = 1 << 16
KEY = bytes(32)


class _AnyNumber(int):
    """Equal to everything: the checksum a table claims is taken for right."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def table(data: bytes) -> None:
    """A partition table, its copies together and each alone, with checksums that are always right."""
    image = BytesReader("disk", data)
    with mock.patch("zlib.crc32", return_value=_AnyNumber()):
        for copy in TableCopy:
            try:
                _check_table(image, copy)
            except DiskError:
                continue
        _check_table(image, None)


def _check_table(image: BytesReader, copy: TableCopy | None) -> None:
    found = sorted(read_partition_table(image, copy).partitions, key=lambda part: part.offset)
    for one, two in pairwise(found):
        assert one.offset + one.size <= two.offset
    for part in found:
        with open_partition(image, part) as opened:
            assert len(opened.pread(PIECE, 0)) == min(PIECE, part.size)


def qcow2(data: bytes) -> None:
    """A QCOW2 image: its start, its middle and its end."""
    with _file(b"QFI\xfb" + data[4:]) as fd, open_image(fd) as image:
        _read_pieces(image)
        check_qcow2(fd)


def image(data: bytes) -> None:
    """Any image, and what the command says of its content."""
    with _file(data) as fd:
        size = image_size(fd)
        with open_image(fd) as opened:
            assert opened.size == size
            _read_pieces(opened)
            assert "content" in report.contents(opened)
            store_state(opened)


def composite(data: bytes) -> None:
    """The composite file; what it names is not opened."""
    with _file(MAGIC + data) as fd:
        disk = read_composite(fd)
    with _file(disk.encode()) as fd:
        assert read_composite(fd) == disk


def instance(data: bytes) -> None:
    """An instance image and its payloads."""
    opened = BytesReader("image", data)
    ends = 512
    for entry in read_instance(opened).entries:
        assert entry.offset == ends
        assert len(read_payload(opened, entry)) == entry.size
        ends = entry.payload_offset + -(-entry.size // 512) * 512
    unseal(opened, KEY)


def metadata(data: bytes) -> None:
    """Payload metadata means the same once it is written again."""
    found = MetadataPartition.decode(data)
    assert MetadataPartition.decode(found.encode()) == found


def _read_pieces(opened: ImageReader) -> None:
    for offset in (0, opened.size // 2, max(0, opened.size - PIECE)):
        expected = min(PIECE, opened.size - offset)
        assert len(opened.pread(PIECE, offset)) == expected


@contextmanager
def _file(content: bytes) -> Iterator[int]:
    fd = os.memfd_create("fuzz", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.close(fd)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "composite": composite,
    "image": image,
    "instance": instance,
    "metadata": metadata,
    "qcow2": qcow2,
    "table": table,
}


def run(name: str, data: bytes) -> bool:
    """Run a target; True if it accepted the input, False if it refused it with a DiskError."""
    try:
        TARGETS[name](data)
    except DiskError as error:
        assert str(error)
        return False
    return True
