"""Composite disks: compared with protoc, and put together for crosvm."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.disk import (
    Component,
    CompositeDisk,
    ImageDisk,
    ImageError,
    Partition,
    PartitionedDisk,
    UnsupportedImage,
    create_qcow2,
    crosvm_disk,
    image_size,
    read_composite,
)
from tests.disk.conftest import MakeFile, run

MAGIC = b"composite_disk\x1d"
SCHEMA = """
syntax = "proto3";
package cdisk_spec;
enum ReadWriteCapability { READ_ONLY = 0; READ_WRITE = 1; }
message ComponentDisk {
  string file_path = 1; uint64 offset = 2; ReadWriteCapability read_write_capability = 3;
  uint64 file_offset = 4;
}
message CompositeDisk {
  uint64 version = 1; repeated ComponentDisk component_disks = 2; uint64 length = 3;
}
"""
TEXT = """
version: 2
component_disks { file_path: "/proc/self/fd/9" }
component_disks { file_path: "/proc/self/fd/10" offset: 20480 read_write_capability: READ_WRITE }
component_disks { file_path: "ä.img" offset: 24480 file_offset: 512 }
length: 49152
"""
DISK = CompositeDisk(
    (
        Component("/proc/self/fd/9", 0),
        Component("/proc/self/fd/10", 20480, True),
        Component("ä.img", 24480, False, 512),
    ),
    49152,
)


def protoc(directory: Path, option: str, data: bytes) -> bytes:
    (directory / "spec.proto").write_text(SCHEMA)
    command = ["protoc", f"-I{directory}", option, str(directory / "spec.proto")]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def test_encoding_is_protocs(tmp_path: Path) -> None:
    message = protoc(tmp_path, "--encode=cdisk_spec.CompositeDisk", TEXT.encode())
    assert DISK.encode() == MAGIC + message


def test_reading_what_was_written(make_file: MakeFile) -> None:
    fd = make_file(DISK.encode())
    assert read_composite(fd) == DISK
    assert image_size(fd) == 49152


@given(
    st.lists(st.tuples(st.text(max_size=30), st.booleans(), st.integers(0, 1 << 63)), min_size=1),
    st.integers(1, 1 << 40),
)
def test_round_trip(parts: list[tuple[str, bool, int]], step: int) -> None:
    components = [Component(path, n * step, rw, at) for n, (path, rw, at) in enumerate(parts)]
    disk = CompositeDisk(tuple(components), len(parts) * step)
    fd = os.memfd_create("composite")
    try:
        os.write(fd, disk.encode())
        assert read_composite(fd) == disk
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no version"),
        (CompositeDisk((Component("a", 0),), 1, version=3).encode()[15:], "version 3"),
        (CompositeDisk((), 4096).encode()[15:], "do not cover"),
        (CompositeDisk((Component("a", 1),), 4096).encode()[15:], "do not cover"),
        (CompositeDisk((Component("a", 0), Component("b", 0)), 9).encode()[15:], "do not cover"),
        (CompositeDisk((Component("a", 0), Component("b", 9)), 9).encode()[15:], "do not cover"),
        (b"\x12\xff\xff\xff\xff\x0f", "4294967295 at byte 1, at most"),
        (b"\x08" + b"\xff" * 11, "number longer than 10 bytes"),
        (b"\x08", "1 bytes wanted"),
        (b"\x13", "group of field 2 does not end"),
        (b"\x02\x00", "field number 0"),
        (b"\x0a\x00", "composite disk version 0"),
        (b"\x10\x00", "composite disk version 0"),
        (b"\x12\x02\x18\x02", "read_write_capability 2"),
        (b"\x12\x03\x0a\x01\xff", "not UTF-8"),
        (b"\x12\x00" * 1025, "more than 1024 of them"),
    ],
)
def test_hostile_files(make_file: MakeFile, content: bytes, message: str) -> None:
    expected = UnsupportedImage if "version" in message else ImageError
    with pytest.raises(expected, match=message.replace("no version", "version 0")):
        image_size(make_file(MAGIC + content))


def test_a_huge_file_is_not_read(make_file: MakeFile) -> None:
    with pytest.raises(ImageError, match="composite file of more than"):
        image_size(make_file(MAGIC, size=1 << 40))


@given(st.binary(max_size=200))
def test_random_content_never_crashes(content: bytes) -> None:
    fd = os.memfd_create("composite")
    try:
        os.write(fd, MAGIC + content)
        with contextlib.suppress(ImageError):
            read_composite(fd)
    finally:
        os.close(fd)


def assemble(disk: CompositeDisk) -> bytes:
    """What crosvm would show: each component up to where the next begins."""
    image = b""
    ends = [*(component.offset for component in disk.components[1:]), disk.length]
    for component, end in zip(disk.components, ends, strict=True):
        with open(component.path, "rb") as file:
            file.seek(component.file_offset)
            part = file.read(end - component.offset)
        assert len(part) == end - component.offset, "a component is shorter than its range"
        image += part
    return image


def test_crosvm_sees_a_sound_disk(tmp_path: Path, make_file: MakeFile) -> None:
    parts = (
        Partition("first", make_file(b"1" * 8192), True),
        Partition("odd", make_file(b"2" * 5000)),
        Partition("odd-too", make_file(b"3" * 100), True),
    )
    disk = PartitionedDisk((*parts[:2], Partition("odd-too", parts[2].fd)), True)
    with contextlib.ExitStack() as stack:
        made = crosvm_disk(disk, "d", stack)
        composite = read_composite(made.fd)
        image = assemble(composite)
        named = {int(component.path.rpartition("/")[2]) for component in composite.components}
        assert named | {made.fd} == set(made.fds)
    assert image[20480:-20480] == b"1" * 8192 + b"2" * 5000 + bytes(3192) + b"3" * 100 + bytes(3996)
    writable = [component.offset for component in composite.components if component.writable]
    assert writable == [20480]
    (tmp_path / "all").write_bytes(image)
    report = run("sgdisk", "--print", str(tmp_path / "all"))
    assert "first" in report and "odd-too" in report


def test_qcow2_components_have_their_virtual_size(make_file: MakeFile) -> None:
    fd = make_file()
    create_qcow2(fd, 1 << 20)
    with contextlib.ExitStack() as stack:
        made = crosvm_disk(PartitionedDisk((Partition("q", fd, True),), True), "d", stack)
        assert image_size(made.fd) == 40960 + (1 << 20)


def test_one_image_is_passed_on_as_it_is(make_file: MakeFile) -> None:
    fd = make_file(b"x" * 512)
    with contextlib.ExitStack() as stack:
        made = crosvm_disk(ImageDisk(fd), "d", stack)
        assert made.fds == (made.fd,)
        assert os.pread(made.fd, 9, 0) == b"x" * 9
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(made.fd, b"y", 0)
