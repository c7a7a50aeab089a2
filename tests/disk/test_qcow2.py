"""QCOW2 images: ours are read by qemu-img, qemu-img's are read by us, and what reaches outside is refused."""

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.disk import DiskError, ImageError, UnsupportedImage, create_qcow2, image_size
from tests.disk.conftest import MakeFile, name_of, run


@pytest.mark.parametrize("size", [0, 1 << 20, 10 << 20, (1 << 29) + 512, 1 << 40, 16 << 40])
def test_qemu_img_finds_no_fault(make_file: MakeFile, size: int) -> None:
    fd = make_file(b"old content" * 100)
    create_qcow2(fd, size)
    assert image_size(fd) == size
    assert "No errors were found" in run("qemu-img", "check", "-f", "qcow2", name_of(fd))
    info = run("qemu-img", "info", "-f", "qcow2", name_of(fd))
    assert f"({size} bytes)" in info or size == 0
    assert "compat: 1.1" in info and "refcount bits: 16" in info


def test_the_file_is_four_clusters_and_nearly_empty(make_file: MakeFile) -> None:
    fd = make_file()
    create_qcow2(fd, 4 << 40)
    status = os.fstat(fd)
    assert status.st_size == 262144
    assert status.st_blocks * 512 <= 16384


def test_writes_by_qemu_keep_it_sound(make_file: MakeFile) -> None:
    fd = make_file()
    create_qcow2(fd, 1 << 30)
    writes = ["-c", "write -P 7 0 64k", "-c", "write -P 9 700M 3M", "-c", "read -P 9 701M 1M"]
    report = run("qemu-io", "-f", "qcow2", *writes, name_of(fd))
    assert "failed" not in report
    assert "No errors were found" in run("qemu-img", "check", "-f", "qcow2", name_of(fd))
    assert image_size(fd) == 1 << 30


@pytest.mark.parametrize("size", [-1, (16 << 40) + 1])
def test_impossible_sizes(make_file: MakeFile, size: int) -> None:
    with pytest.raises(DiskError, match="is not possible"):
        create_qcow2(make_file(), size)


@pytest.mark.parametrize(
    "options", ["compat=1.1", "compat=1.1,cluster_size=2M", "lazy_refcounts=on"]
)
def test_images_of_qemu_img_are_accepted(tmp_path: Path, options: str) -> None:
    assert size_of_created(tmp_path, options) == 32 << 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("compat=0.10", "version 2"),
        ("refcount_bits=8", "reference count order 3"),
        ("extended_l2=on", "extended L2"),
        ("compression_type=zstd", "compression type"),
        ("data_file=DIR/outside,data_file_raw=on", "an external data file"),
        ("backing_file=DIR/base,backing_fmt=raw", "a backing file"),
        ("encrypt.format=aes,encrypt.key-secret=s", "encryption"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: str, message: str) -> None:
    (tmp_path / "base").write_bytes(bytes(4096))
    with pytest.raises(UnsupportedImage, match=message):
        size_of_created(tmp_path, options.replace("DIR", str(tmp_path)))


def test_snapshots_are_refused(tmp_path: Path) -> None:
    size_of_created(tmp_path, "compat=1.1")
    run("qemu-img", "snapshot", "-c", "s", str(tmp_path / "image"))
    with pytest.raises(UnsupportedImage, match="internal snapshots"):
        size_of(tmp_path / "image")


def size_of_created(directory: Path, options: str) -> int:
    secret = ("--object", "secret,id=s,data=x")
    run(
        "qemu-img", "create", *secret, "-f", "qcow2", "-o", options, str(directory / "image"), "32M"
    )
    return size_of(directory / "image")


def size_of(path: Path) -> int:
    with path.open("rb") as file:
        return image_size(file.fileno())


@pytest.mark.parametrize(
    ("offset", "form", "value", "message"),
    [
        (8, ">Q", 112, "a backing file"),
        (16, ">I", 5, "a backing file"),
        (20, ">I", 8, "cluster bits 8"),
        (20, ">I", 22, "cluster bits 22"),
        (20, ">I", 0xFFFFFFFF, "cluster bits"),
        (24, ">Q", 1 << 62, "virtual size"),
        (32, ">I", 3, "encryption"),
        (36, ">I", 0, "L1 table of 0 entries"),
        (36, ">I", 0xFFFFFFFF, "L1 table of"),
        (40, ">Q", 12345, "L1 table at 12345"),
        (40, ">Q", 1 << 40, "L1 table at"),
        (40, ">Q", 0, "L1 table at 0"),
        (48, ">Q", 1 << 60, "reference count table at"),
        (56, ">I", 0, "no reference count table"),
        (56, ">I", 0xFFFF, "reference count table at"),
        (72, ">Q", 1, "dirty reference counts"),
        (72, ">Q", 2, "the corrupt mark"),
        (72, ">Q", 1 << 63, "feature bit 63"),
        (96, ">I", 63, "reference count order 63"),
        (100, ">I", 72, "header size 72"),
        (100, ">I", 0xFFFFFFF8, "header size"),
        (104, ">II", (0x44415441, 0), "an external data file"),
        (104, ">II", (0xE2792ACA, 3), "a backing file format"),
        (104, ">II", (0x12345678, 0xFFFFFFFF), "header extension of 4294967295 bytes"),
    ],
)
def test_hostile_headers(
    make_file: MakeFile, offset: int, form: str, value: int | tuple[int, ...], message: str
) -> None:
    fd = make_file()
    create_qcow2(fd, 1 << 20)
    os.pwrite(fd, struct.pack(form, *(value if isinstance(value, tuple) else (value,))), offset)
    with pytest.raises(ImageError, match=message) as caught:
        image_size(fd)
    assert name_of(fd) in str(caught.value)


def test_endless_extensions_are_bounded(make_file: MakeFile) -> None:
    fd = make_file()
    create_qcow2(fd, 1 << 20)
    os.pwrite(fd, struct.pack(">II", 0x6803F857, 0) * 1000, 104)
    with pytest.raises(ImageError, match="header extensions"):
        image_size(fd)


def test_a_cut_header(make_file: MakeFile) -> None:
    with pytest.raises(ImageError, match="cut off"):
        image_size(make_file(b"QFI\xfb" + bytes(50)))


@given(data=st.binary(min_size=100, max_size=300))
def test_random_headers_never_crash(data: bytes) -> None:
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, b"QFI\xfb\0\0\0\3" + data)
        with pytest.raises(ImageError):
            image_size(fd)
    finally:
        os.close(fd)
