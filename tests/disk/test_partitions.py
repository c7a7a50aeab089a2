"""Writable partitions as virtmgr makes them for clients."""

import os

import pytest

from avf.disk import (
    DiskError,
    PartitionKind,
    create_writable_partition,
    format_encryptedstore,
    format_instance,
    image_size,
)
from tests.disk.conftest import MakeFile

STARTS = {
    PartitionKind.RAW: b"\0",
    PartitionKind.ANDROID_VM_INSTANCE: b"Android-VM-instance\1\0\0",
    PartitionKind.ENCRYPTEDSTORE: b"UNFORMATTED-STORAGE\0",
}


@pytest.mark.parametrize("kind", list(PartitionKind))
@pytest.mark.parametrize(
    ("size", "rounded"), [(1, 4096), (4096, 4096), (10 << 20, 10 << 20), (5000, 8192)]
)
def test_a_fresh_partition(
    make_file: MakeFile, kind: PartitionKind, size: int, rounded: int
) -> None:
    fd = make_file(b"" if kind is PartitionKind.RAW else STARTS[kind].ljust(30000, b"x"))
    os.lseek(fd, 77, os.SEEK_SET)
    create_writable_partition(fd, size, kind)
    assert image_size(fd) == rounded
    content = os.pread(fd, rounded, 0)
    assert content.rstrip(b"\0") == STARTS[kind].rstrip(b"\0")
    assert content.startswith(STARTS[kind])
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    assert os.fstat(fd).st_blocks * 512 <= 4096


def test_an_empty_one(make_file: MakeFile) -> None:
    fd = make_file(size=4096)
    create_writable_partition(fd, 0)
    assert os.fstat(fd).st_size == 0


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (-1, PartitionKind.RAW),
        ((16 << 40) + 1, PartitionKind.RAW),
        (0, PartitionKind.ANDROID_VM_INSTANCE),
        (0, PartitionKind.ENCRYPTEDSTORE),
    ],
)
def test_impossible_sizes_leave_the_file_alone(
    make_file: MakeFile, size: int, kind: PartitionKind
) -> None:
    fd = make_file(b"precious")
    with pytest.raises(DiskError):
        create_writable_partition(fd, size, kind)
    assert os.pread(fd, 20, 0) == b"precious"


def test_a_read_only_descriptor_is_an_os_error(make_file: MakeFile) -> None:
    with pytest.raises(OSError):
        create_writable_partition(make_file(flags=os.O_RDONLY), 4096)


def test_marks_alone(make_file: MakeFile) -> None:
    fd = make_file(size=4096)
    format_instance(fd)
    assert os.pread(fd, 21, 0) == b"Android-VM-instance\1\0"
    format_encryptedstore(fd)
    assert os.pread(fd, 19, 0) == b"UNFORMATTED-STORAGE"
