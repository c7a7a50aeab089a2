"""An image that a VM writes to belongs to one VM at a time; who has it is said by name."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avf.disk import Disk, ImageDisk, Partition, PartitionedDisk
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.locks import require_unused

F_OFD_SETLK = 37


@contextmanager
def locked(path: Path, byte: int = 100, kind: int = fcntl.F_RDLCK) -> Iterator[int]:
    """As QEMU has it: a lock of an open file description, on a byte for each right."""
    with path.open("r+b") as file:
        wanted = struct.pack("@hhqqi4x", kind, os.SEEK_SET, byte, 1, 0)
        fcntl.fcntl(file.fileno(), F_OFD_SETLK, wanted)
        yield file.fileno()


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "vm.img"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as file:
        yield file.fileno()


def writable(fd: int) -> tuple[Disk, ...]:
    return (PartitionedDisk((Partition("vm-instance", fd, True),), True),)


def test_an_image_that_nobody_uses(image: int) -> None:
    require_unused((*writable(image), ImageDisk(image, True)))


@pytest.mark.parametrize(("byte", "kind"), [(100, fcntl.F_RDLCK), (201, fcntl.F_WRLCK)])
def test_an_image_that_is_in_use(image: int, tmp_path: Path, byte: int, kind: int) -> None:
    with locked(tmp_path / "vm.img", byte, kind):
        with pytest.raises(VirtmgrError) as caught:
            require_unused(writable(image))
        with pytest.raises(VirtmgrError, match=f"^the disk image {tmp_path}/vm.img is in use by "):
            require_unused((ImageDisk(image, True),))
    assert str(caught.value) == (
        f"the image of partition 'vm-instance', {tmp_path}/vm.img is in use by another program"
    )
    require_unused(writable(image))


def test_who_uses_it_is_named(image: int, tmp_path: Path) -> None:
    with (
        locked(tmp_path / "vm.img") as fd,
        subprocess.Popen(["sleep", "60"], pass_fds=[fd]) as user,
    ):
        with pytest.raises(VirtmgrError, match=rf"in use by process {user.pid} \(sleep\)$"):
            require_unused(writable(image))
        user.kill()


def test_an_image_that_is_only_read(image: int, tmp_path: Path) -> None:
    """Many VMs may read one image."""
    with locked(tmp_path / "vm.img"):
        require_unused(
            (
                ImageDisk(image),
                PartitionedDisk((Partition("a", image, True),)),
                PartitionedDisk((Partition("a", image),), True),
            )
        )


def test_something_that_cannot_be_locked(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    require_unused((ImageDisk(read_end, True),))
    os.close(read_end)
    os.close(write_end)
