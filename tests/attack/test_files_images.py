"""A guest writes the beginning of another format into its raw disk: at the next start the disk is what it was."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.disk import (
    Component,
    CompositeDisk,
    Disk,
    DiskError,
    ImageDisk,
    ImageError,
    ImageFormat,
    Partition,
    PartitionedDisk,
    PartitionKind,
    UnsupportedImage,
    attached_format,
    attached_size,
    check_disk,
    create_qcow2,
    create_writable_partition,
    crosvm_disk,
    layout,
    measure,
)
from avf.disk.__main__ import main as disk_command
from tests.disk.conftest import Exporter, MakeFile, export, make_file, name_of, run

__all__ = ["export", "make_file"]

SIZE = 10 << 20
SECRET = b"the key of the user"
VMDK = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 9 FLAT "%s" 0\n'


def huge_qcow2(folder: Path) -> bytes:
    path = folder / "template"
    run("qemu-img", "create", "-f", "qcow2", str(path), "64G")
    return path.read_bytes()


def made_by(kind: str) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        path = folder / "template"
        run("qemu-img", "create", "-f", kind, str(path), "1G")
        return path.read_bytes()[:SIZE]

    return make


def composite(folder: Path) -> bytes:
    return CompositeDisk((Component(str(folder / "secret"), 0),), 1 << 30).encode()


STARTS: dict[str, Callable[[Path], bytes]] = {
    "an empty QCOW2 image of 64 GiB": huge_qcow2,
    "a VMDK that names a file": lambda folder: VMDK % bytes(folder / "secret"),
    "a composite disk that names a file": composite,
    "an Android sparse image": lambda _: bytes.fromhex("3aff26ed") + bytes(24),
    "a zstd archive": lambda _: bytes.fromhex("28b52ffd") + bytes(24),
    "QED": made_by("qed"),
    "VDI": made_by("vdi"),
    "VHDX": made_by("vhdx"),
    "VPC": made_by("vpc"),
    "LUKS": lambda _: b"LUKS\xba\xbe\0\x01" + bytes(600),
}


@pytest.fixture(params=STARTS)
def rewritten(request: pytest.FixtureRequest, tmp_path: Path, make_file: MakeFile) -> int:
    """A raw image of 10 MiB after its guest has written over its beginning."""
    (tmp_path / "secret").write_bytes(SECRET * 1000)
    fd = make_file()
    create_writable_partition(fd, SIZE, PartitionKind.RAW)
    os.pwrite(fd, STARTS[request.param](tmp_path), 0)
    return fd


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("partitioned", [True, False])
def test_the_disk_stays_raw_and_does_not_grow(
    tmp_path: Path,
    export: Callable[[Disk], Exporter],
    rewritten: int,
    recorded: bool,
    partitioned: bool,
) -> None:
    if not recorded:
        os.removexattr(rewritten, "user.avf.format")
    written = os.pread(rewritten, SIZE, 0)
    part = Partition("data", rewritten, True)
    disk = PartitionedDisk((part,), True) if partitioned else ImageDisk(rewritten, True)
    exporter = export(disk)
    start = 20480 if partitioned else 0
    seen = exporter.read_all(tmp_path / "seen")
    assert seen[start : start + SIZE] == written
    assert SECRET not in seen
    assert len(seen) == SIZE + (40960 if partitioned else 0)
    assert "wrote" in exporter.io(f"write -P 7 {start + SIZE - 4096} 4096")
    assert "wrote" not in exporter.io(f"write -P 7 {len(seen)} 4096")
    exporter.close()
    assert os.fstat(rewritten).st_size == SIZE
    assert os.pread(rewritten, 4096, SIZE - 4096) == b"\x07" * 4096


@pytest.mark.parametrize("partitioned", [True, False])
@pytest.mark.parametrize(
    "start", [name for name in STARTS if "composite" in name or "QCOW2" in name or "sparse" in name]
)
def test_crosvm_which_guesses_never_gets_it(
    tmp_path: Path, make_file: MakeFile, start: str, partitioned: bool
) -> None:
    fd = make_file()
    create_writable_partition(fd, SIZE, PartitionKind.RAW)
    os.pwrite(fd, STARTS[start](tmp_path), 0)
    part = Partition("data", fd, True)
    disk = PartitionedDisk((part,), True) if partitioned else ImageDisk(fd, True)
    with contextlib.ExitStack() as stack, pytest.raises(UnsupportedImage, match="begins like"):
        crosvm_disk(disk, "d", stack)


def test_nothing_is_guessed_of_a_read_only_image_either(make_file: MakeFile) -> None:
    fd = make_file()
    create_qcow2(fd, 64 << 30)
    os.removexattr(fd, "user.avf.format")
    with pytest.raises(UnsupportedImage, match=r"ends in \.qcow2"):
        measure([Partition("data", fd)])


def test_a_real_qcow2_image_is_one_by_its_record_or_by_its_name(
    tmp_path: Path, make_file: MakeFile
) -> None:
    recorded = make_file()
    create_qcow2(recorded, 1 << 20)
    named = tmp_path / "named.qcow2"
    run("qemu-img", "create", "-f", "qcow2", str(named), "1M")
    with named.open("r+b") as file:
        for fd in (recorded, file.fileno()):
            for writable in (True, False):
                assert attached_format(fd, writable=writable) is ImageFormat.QCOW2
                assert attached_size(fd, writable=writable) == 1 << 20


def test_an_image_made_anew_as_raw_is_raw_whatever_it_was(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    with path.open("w+b") as file:
        create_qcow2(file.fileno(), 1 << 20)
        with pytest.raises(DiskError, match="it looks like a QCOW2 image"):
            create_writable_partition(file.fileno(), 8192)
        file.truncate(0)
        create_writable_partition(file.fileno(), 8192)
        assert attached_format(file.fileno(), writable=True) is ImageFormat.RAW
        assert attached_size(file.fileno(), writable=True) == 8192


def test_a_raw_image_named_qcow2_is_refused_and_not_misread(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    path.write_bytes(bytes(8192))
    with path.open("r+b") as file, pytest.raises(ImageError, match="not a QCOW2 image"):
        attached_size(file.fileno(), writable=True)


def test_no_disk_can_be_rounded_up(make_file: MakeFile) -> None:
    fd = make_file(bytes(1000))
    with pytest.raises(ImageError, match="multiple of 512"):
        check_disk(ImageDisk(fd, True))
    check_disk(ImageDisk(fd))
    parts = [Partition("a", fd)]
    assert layout(parts, measure(parts), writable=True).placements[0].span == 4096


def test_extracting_a_guests_disk_copies_no_file_that_it_names(
    tmp_path: Path, make_file: MakeFile, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_bytes(SECRET * 1000)
    fd = make_file(CompositeDisk((Component("secret", 0),), 1000).encode())
    out = tmp_path / "out"
    assert disk_command(["extract", name_of(fd), str(out)]) == 1
    assert "other files" in capsys.readouterr().err
    assert not out.exists()
