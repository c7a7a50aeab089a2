"""The concatenated disk as QEMU itself reads and writes it: same arguments, no guest."""

import contextlib
import hashlib
import os
import subprocess
import sys
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
    Partition,
    PartitionedDisk,
    UnsupportedImage,
    create_qcow2,
    qemu_disk,
)
from tests.disk.conftest import Exporter, ExportError, MakeFile, name_of, run

Export = Callable[[Disk], Exporter]
FIRST = 20480


@pytest.fixture
def parts(make_file: MakeFile) -> list[Partition]:
    """A writable raw, a read-only unaligned raw, a writable QCOW2 and a read-only QCOW2 partition."""
    filled = [make_file(), make_file()]
    for number, fd in enumerate(filled):
        create_qcow2(fd, 1 << 20)
        run("qemu-io", "-f", "qcow2", "-c", f"write -P {number + 65} 64k 64k", name_of(fd))
    return [
        Partition("raw-rw", make_file(b"w" * 16384), True),
        Partition("raw-ro", make_file(os.urandom(12345))),
        Partition("qcow-rw", filled[0], True),
        Partition("qcow-ro", filled[1]),
    ]


def content(fd: int) -> bytes:
    return os.pread(fd, 1 << 22, 0)


def expected(parts: list[Partition]) -> bytes:
    """What the partitions' area must read as."""
    qcow = [bytes(65536) + byte * 65536 + bytes((1 << 20) - 131072) for byte in (b"A", b"B")]
    return content(parts[0].fd) + content(parts[1].fd).ljust(16384, b"\0") + qcow[0] + qcow[1]


@pytest.mark.parametrize("writable", [False, True])
def test_it_reads_as_a_sound_disk(
    tmp_path: Path, export: Export, parts: list[Partition], writable: bool
) -> None:
    exporter = export(PartitionedDisk(tuple(parts), writable))
    image = exporter.read_all(tmp_path / "all")
    assert image[FIRST:-20480] == expected(parts)
    assert "No problems found" in run("sgdisk", "--verify", str(tmp_path / "all"))
    for number, part in enumerate(parts, start=1):
        info = run("sgdisk", f"--info={number}", str(tmp_path / "all"))
        assert f"'{part.label}'" in info


def test_writes_reach_writable_partitions_only(export: Export, parts: list[Partition]) -> None:
    before = [hashlib.sha256(content(part.fd)).digest() for part in parts]
    exporter = export(PartitionedDisk(tuple(parts), True))
    raw_ro, qcow_rw = FIRST + 16384, FIRST + 32768
    report = exporter.io(f"write -P 1 {FIRST + 4096} 512", f"write -P 2 {qcow_rw} 64k", "flush")
    assert "failed" not in report
    refused = [
        f"write {raw_ro} 4096",
        f"write -z {raw_ro} 4096",
        f"write -z -u {raw_ro} 4096",
        f"write {qcow_rw + (1 << 20)} 512",
        "write 0 512",
        f"write {qcow_rw + (2 << 20)} 512",
    ]
    for command in refused:
        assert "failed" in exporter.io(command), command
    assert "failed" not in exporter.io("flush", f"read -P 1 {FIRST + 4096} 512")
    exporter.close()
    after = [hashlib.sha256(content(part.fd)).digest() for part in parts]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, False, True]
    assert content(parts[0].fd) == b"w" * 4096 + b"\1" * 512 + b"w" * (16384 - 4608)
    assert "No errors" in run("qemu-img", "check", "-f", "qcow2", name_of(parts[2].fd))
    assert "failed" not in run(
        "qemu-io",
        "-f",
        "qcow2",
        "-c",
        "read -P 2 0 64k",
        "-c",
        "read -P 65 64k 64k",
        name_of(parts[2].fd),
    )


def test_a_read_only_disk_takes_no_writes(export: Export, parts: list[Partition]) -> None:
    report = export(PartitionedDisk(tuple(parts), False)).io(f"write {FIRST} 512")
    assert "Permission denied" in report or "read-only" in report


def test_a_disk_of_128_partitions(tmp_path: Path, export: Export, make_file: MakeFile) -> None:
    fd = make_file(b"p" * 4096)
    disk = PartitionedDisk(tuple(Partition(f"p{n}", fd) for n in range(128)))
    image = export(disk).read_all(tmp_path / "all")
    assert image[FIRST:-20480] == b"p" * 4096 * 128


@pytest.mark.parametrize("writable", [False, True])
def test_an_unpartitioned_disk(
    tmp_path: Path, export: Export, make_file: MakeFile, writable: bool
) -> None:
    fd = make_file(b"d" * 8192)
    exporter = export(ImageDisk(fd, writable))
    assert exporter.read_all(tmp_path / "all") == b"d" * 8192
    exporter.io("write -P 3 0 512", "flush")
    exporter.close()
    assert content(fd).startswith(b"\3" if writable else b"d")


def test_a_second_writer_is_locked_out(export: Export, make_file: MakeFile) -> None:
    disk = PartitionedDisk((Partition("w", make_file(size=4096), True),), True)
    export(disk)
    with pytest.raises(ExportError, match="lock"):
        export(disk)


def test_qcow2_with_a_backing_file_never_reaches_qemu(tmp_path: Path, make_file: MakeFile) -> None:
    (tmp_path / "secret").write_bytes(b"s" * 4096)
    image = tmp_path / "image.qcow2"
    run(
        "qemu-img", "create", "-f", "qcow2", "-b", str(tmp_path / "secret"), "-F", "raw", str(image)
    )
    with image.open("r+b") as file, contextlib.ExitStack() as stack:
        for disk in (ImageDisk(file.fileno()), PartitionedDisk((Partition("p", file.fileno()),))):
            with pytest.raises(UnsupportedImage, match="a backing file"):
                qemu_disk(disk, "d", stack)


def test_a_raw_image_that_pretends_later_stays_raw(
    tmp_path: Path, export: Export, make_file: MakeFile
) -> None:
    """A guest may write any header into its raw disk while it runs: QEMU was told the format."""
    fd = make_file(size=65536)
    exporter = export(ImageDisk(fd, True))
    os.pwrite(fd, b"QFI\xfb" + bytes(100), 0)
    assert exporter.read_all(tmp_path / "all").startswith(b"QFI\xfb")


def test_composites_are_refused(make_file: MakeFile) -> None:
    fd = make_file(CompositeDisk((Component("/etc/passwd", 0),), 4096).encode())
    with contextlib.ExitStack() as stack, pytest.raises(UnsupportedImage, match="composite"):
        qemu_disk(ImageDisk(fd), "d", stack)


def test_a_read_only_descriptor_is_not_made_writable(make_file: MakeFile) -> None:
    fd = make_file(size=4096, flags=os.O_RDONLY)
    with contextlib.ExitStack() as stack, pytest.raises(ImageError, match="open for reading only"):
        qemu_disk(ImageDisk(fd, True), "d", stack)


def open_descriptors() -> set[str]:
    return {str(fd) for fd in range(1024) if Path(f"/proc/self/fd/{fd}").exists()}


def test_nothing_leaks_when_a_disk_is_refused(make_file: MakeFile) -> None:
    good = Partition("good", make_file(size=4096), True)
    bad = Partition("bad", make_file(size=4097), True)
    late = Partition("late", make_file(b"x" * 4096, flags=os.O_RDONLY), True)
    before = open_descriptors()
    for parts in ((good, bad), (good, late)):
        with contextlib.ExitStack() as stack, pytest.raises(DiskError):
            qemu_disk(PartitionedDisk(parts, True), "d", stack)
    assert open_descriptors() == before


def test_descriptors_live_as_long_as_the_stack(make_file: MakeFile, parts: list[Partition]) -> None:
    before = open_descriptors()
    with contextlib.ExitStack() as stack:
        nodes = qemu_disk(PartitionedDisk(tuple(parts), True), "d", stack)
        assert set(map(str, nodes.fds)) == open_descriptors() - before
        assert not any(os.get_inheritable(fd) for fd in nodes.fds)
    assert open_descriptors() == before


@pytest.mark.usefixtures("several_uids")
def test_another_users_file(tmp_path: Path, make_file: MakeFile) -> None:
    """A descriptor whose file we could not open ourselves is used as it is."""
    program = (
        "import os, sys, contextlib\n"
        "from avf.disk import ImageDisk, ImageError, qemu_disk\n"
        "fd = int(sys.argv[1])\n"
        "os.setuid(65534)\n"
        "with contextlib.ExitStack() as stack:\n"
        "    print(qemu_disk(ImageDisk(fd, True), 'd', stack).blockdevs[0]['file']['locking'])\n"
        "with contextlib.ExitStack() as stack:\n"
        "    try: qemu_disk(ImageDisk(fd, False), 'd', stack)\n"
        "    except ImageError as error: print(error)\n"
    )
    if os.getuid() != 0:
        pytest.fail("this test needs root to change its user")
    fd = make_file(size=4096)
    os.fchmod(fd, 0o600)
    result = subprocess.run(
        [sys.executable, "-c", program, str(fd)],
        pass_fds=[fd],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[0] == "off"
    assert "must be open for reading only" in result.stdout


def test_partitions_beyond_four_tebibytes(export: Export) -> None:
    size = 5 << 40
    fds = [os.memfd_create("huge"), os.memfd_create("huge-too")]
    try:
        for fd in fds:
            os.ftruncate(fd, size)
            os.pwrite(fd, b"end", size - 3)
        parts = (Partition("rw", fds[0], True), Partition("ro", fds[1]))
        exporter = export(PartitionedDisk(parts, True))
        first_end, second_end = FIRST + size - 512, FIRST + 2 * size - 512
        report = exporter.io(f"read -v {first_end} 512", f"read -v {second_end} 512")
        assert report.count("65 6e 64") == 2
        assert "failed" not in exporter.io(f"write -P 1 {first_end} 512", "flush")
        assert "failed" in exporter.io(f"write -P 1 {second_end} 512")
        assert os.pread(fds[0], 3, size - 3) == b"\1\1\1"
    finally:
        for fd in fds:
            os.close(fd)
