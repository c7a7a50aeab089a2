"""Random access to images: compared with qemu-img's idea of them, hostile tables, files that change."""

import contextlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avf.disk import (
    Component,
    CompositeDisk,
    Dialect,
    ImageDisk,
    ImageError,
    Partition,
    PartitionedDisk,
    UnsupportedImage,
    check_qcow2,
    copy_image,
    create_qcow2,
    crosvm_disk,
    open_disk,
    open_image,
    open_partition,
    read_composite,
    read_partition_table,
)
from tests.disk.conftest import MakeFile, name_of, run

WRITES = [
    "write -P 1 0 512",
    "write -P 2 65000 70000",
    "write -P 3 3M 1M",
    "write -z 3200k 128k",
    "discard 3500k 128k",
    "write -P 4 33553920 512",
]


def qcow2_of_qemu(directory: Path, options: str, size: str = "32M") -> Path:
    path = directory / "image"
    run("qemu-img", "create", "-f", "qcow2", "-o", options, str(path), size)
    run("qemu-io", "-f", "qcow2", *(part for one in WRITES for part in ("-c", one)), str(path))
    return path


def converted(path: Path) -> bytes:
    """What qemu-img reads from it."""
    target = path.with_name("raw")
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(target))
    return target.read_bytes()


@pytest.mark.parametrize("cluster", ["512", "4k", "64k", "2M"])
@pytest.mark.parametrize("preallocation", ["off", "metadata"])
def test_qcow2_reads_as_qemu_reads_it(tmp_path: Path, cluster: str, preallocation: str) -> None:
    path = qcow2_of_qemu(tmp_path, f"cluster_size={cluster},preallocation={preallocation}")
    expected = converted(path)
    with path.open("rb") as file, open_image(file.fileno()) as image:
        assert image.size == 32 << 20
        assert image.pread(image.size, 0) == expected
        for offset, size in [
            (0, 0),
            (511, 2),
            (64999, 2),
            (134999, 600),
            (33554431, 9),
            (1 << 40, 1),
        ]:
            assert image.pread(size, offset) == expected[offset : offset + size]
        with pytest.raises(ValueError):
            image.pread(1, -1)
    assert expected[-512:] == b"\4" * 512


@pytest.mark.parametrize("cluster", ["512", "4k", "64k"])
def test_checking_counts_as_qemu_img_does(tmp_path: Path, cluster: str) -> None:
    path = qcow2_of_qemu(tmp_path, f"cluster_size={cluster}")
    report = json.loads(run("qemu-img", "check", "--output=json", "-f", "qcow2", str(path)))
    with path.open("rb") as file:
        assert check_qcow2(file.fileno()) == report["allocated-clusters"] > 0


def test_clusters_used_twice_are_found(small: tuple[int, int]) -> None:
    fd, table = small
    assert check_qcow2(fd) == 1
    for at, value, message in (
        (table + 8, os.pread(fd, 8, table), "L2 entry of cluster 1 leads to .*in use"),
        (table + 16, struct.pack(">Q", COPIED | table), "L2 entry of cluster 2 leads to .*in use"),
        (table + 24, struct.pack(">Q", COPIED | 0x10000), "leads into another table"),
        (table + 32, struct.pack(">Q", 1 << 62), "compressed"),
    ):
        os.pwrite(fd, value, at)
        with pytest.raises(ImageError, match=message):
            check_qcow2(fd)
        os.pwrite(fd, bytes(8), at)
    assert check_qcow2(fd) == 1


def test_copying_keeps_holes(tmp_path: Path, make_file: MakeFile) -> None:
    path = qcow2_of_qemu(tmp_path, "cluster_size=64k")
    target = make_file(b"old" * 100)
    with path.open("rb") as file, open_image(file.fileno()) as image:
        copy_image(image, target)
    assert Path(name_of(target)).read_bytes() == converted(path)
    assert os.fstat(target).st_blocks * 512 < 8 << 20


def test_holes_are_not_even_read(tmp_path: Path, make_file: MakeFile) -> None:
    """16 TiB of nothing, in a file, in a QCOW2 image, in a partition: read in full they would take hours."""
    huge, qcow2 = os.memfd_create("huge"), make_file()
    try:
        os.ftruncate(huge, 16 << 40)
        os.pwrite(huge, b"x", 5 << 40)
        os.lseek(huge, 7, os.SEEK_SET)
        create_qcow2(qcow2, 16 << 40)
        run("qemu-io", "-f", "qcow2", "-c", "write -P 9 9T 512", name_of(qcow2))
        parts = (Partition("raw", huge), Partition("qcow2", qcow2), Partition("end", huge))
        with open_disk(PartitionedDisk(parts)) as disk:
            found = [(at + data.index(b"x") if b"x" in data else at) for at, data in disk.chunks()]
            table = read_partition_table(disk)
            with open_partition(disk, table.find("qcow2")) as part:
                ((inside, data),) = part.chunks()
        assert os.lseek(huge, 0, os.SEEK_CUR) == 7
    finally:
        os.close(huge)
    starts = [part.offset for part in table.partitions]
    assert starts[0] + (5 << 40) in found and starts[2] + (5 << 40) in found
    assert inside <= 9 << 40 < inside + len(data)
    assert data[(9 << 40) - inside :][:513] == b"\x09" * 512 + b"\0"
    assert len(found) == 5


def test_large_images_are_read_in_bounded_memory(make_file: MakeFile) -> None:
    """An image of 16 TiB with something at its very end."""
    fd = make_file()
    create_qcow2(fd, 16 << 40)
    run("qemu-io", "-f", "qcow2", "-c", f"write -P 9 {(16 << 40) - 512} 512", name_of(fd))
    with open_image(fd) as image:
        assert image.pread(1 << 20, (16 << 40) - 512) == b"\x09" * 512
        assert image.pread(100, 8 << 40) == bytes(100)


def test_compressed_clusters_are_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"compressible" * 10000)
    path = tmp_path / "image"
    run("qemu-img", "convert", "-c", "-O", "qcow2", str(tmp_path / "raw"), str(path))
    with (
        path.open("rb") as file,
        open_image(file.fileno()) as image,
        pytest.raises(UnsupportedImage, match="compressed clusters"),
    ):
        image.pread(1, 0)


@pytest.fixture
def small(make_file: MakeFile) -> Iterator[tuple[int, int]]:
    """A QCOW2 image with one cluster written, and where its L2 table is."""
    fd = make_file()
    create_qcow2(fd, 1 << 20)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 64k", name_of(fd))
    (entry,) = struct.unpack(">Q", os.pread(fd, 8, 65536))
    yield fd, entry & 0x00FFFFFFFFFFFE00


COPIED = 1 << 63


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (COPIED | 1 << 50, "L1 entry 0 is 0x8004000000000000"),
        (COPIED | 4096, "L1 entry 0 is"),
        (COPIED | 0x40001, "L1 entry 0 is"),
        (COPIED | 1 << 62 | 0x40000, "L1 entry 0 is"),
        (COPIED | 0x10000, "L1 entry 0 leads into another table"),
        (COPIED | 0x20000, "L1 entry 0 leads into another table"),
    ],
)
def test_hostile_l1_entries(small: tuple[int, int], value: int, message: str) -> None:
    fd, _table = small
    os.pwrite(fd, struct.pack(">Q", value), 65536)
    with open_image(fd) as image, pytest.raises(ImageError, match=message) as caught:
        image.pread(1, 0)
    assert name_of(fd) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (COPIED | 1 << 50, "L2 entry of cluster 0 is"),
        (COPIED | 512, "L2 entry of cluster 0 is"),
        (COPIED | 0x50002, "L2 entry of cluster 0 is"),
        (COPIED | 1 << 61 | 0x50000, "L2 entry of cluster 0 is"),
        (COPIED | 0x10000, "L2 entry of cluster 0 leads into another table"),
        (1 << 62 | 0x50000, "compressed"),
        ((1 << 64) - 1, "compressed"),
    ],
)
def test_hostile_l2_entries(small: tuple[int, int], value: int, message: str) -> None:
    fd, table = small
    os.pwrite(fd, struct.pack(">Q", value), table)
    with open_image(fd) as image, pytest.raises(ImageError, match=message):
        image.pread(1, 0)


@pytest.mark.parametrize("value", [0, 1, COPIED | 0x50001])
def test_zero_clusters(small: tuple[int, int], value: int) -> None:
    fd, table = small
    os.pwrite(fd, struct.pack(">Q", value), table)
    with open_image(fd) as image:
        assert image.pread(100, 0) == bytes(100)


def test_an_image_that_shrinks_while_it_is_read(small: tuple[int, int]) -> None:
    fd, _table = small
    with open_image(fd) as image:
        os.ftruncate(fd, 65536)
        with pytest.raises(ImageError, match="L1 table is cut off"):
            image.pread(1, 0)


def test_a_raw_image_that_shrinks(make_file: MakeFile) -> None:
    fd = make_file(b"x" * 5000)
    with open_image(fd) as image:
        assert image.pread(9999, 4000) == b"x" * 1000
        os.ftruncate(fd, 100)
        with pytest.raises(ImageError, match="became shorter"):
            image.pread(1000, 0)


@given(st.binary(max_size=64), st.integers(0, 7))
@settings(max_examples=60)
def test_random_tables_never_crash(tables: bytes, place: int) -> None:
    fd = os.memfd_create("fuzz")
    try:
        create_qcow2(fd, 1 << 20)
        os.pwrite(fd, struct.pack(">Q", 0x40000), 65536)
        os.pwrite(fd, tables, 0x40000 + place)
        os.ftruncate(fd, 0x60000)
        with contextlib.suppress(ImageError), open_image(fd) as image:
            assert len(image.pread(1 << 21, 0)) == 1 << 20
    finally:
        os.close(fd)


def test_an_assembled_disk_reads_as_crosvms_composite(tmp_path: Path, make_file: MakeFile) -> None:
    qcow2 = make_file()
    create_qcow2(qcow2, 1 << 20)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 6 64k 64k", name_of(qcow2))
    parts = (Partition("odd", make_file(b"o" * 5000)), Partition("q", qcow2, True))
    for dialect in (Dialect.CROSVM, Dialect.CROSVM_2023):
        disk = PartitionedDisk(parts, True)
        with contextlib.ExitStack() as stack:
            made = crosvm_disk(disk, "d", stack, dialect)
            composite = stack.enter_context(open_image(made.fd, directory=tmp_path))
            assembled = stack.enter_context(open_disk(disk, dialect))
            assert composite.size == assembled.size == read_composite(made.fd).length
            middle = (1 << 20) + 8192
            read = composite.pread(middle, 20480)
            assert read == assembled.pread(middle, 20480)
            assert read == b"o" * 5000 + bytes(3192 + 65536) + b"\6" * 65536 + bytes(
                (1 << 20) - 131072
            )
            tables = [read_partition_table(image) for image in (composite, assembled)]
            assert {table.dialect for table in tables} == {dialect}


def test_one_image_is_read_as_it_is(make_file: MakeFile) -> None:
    with open_disk(ImageDisk(make_file(b"abc"))) as disk:
        assert disk.pread(10, 0) == b"abc"


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    directory = tmp_path / "disk"
    directory.mkdir()
    (directory / "a.img").write_bytes(b"a" * 1000)
    (directory / "b.img").write_bytes(b"-" * 10 + b"b" * 990)
    return directory


def read_beside(directory: Path, *components: Component, length: int, version: int = 2) -> bytes:
    path = directory / "composite.img"
    path.write_bytes(CompositeDisk(components, length, version).encode())
    with path.open("rb") as file, open_image(file.fileno(), directory=directory) as image:
        return image.pread(length + 1, 0)


def test_composites_of_version_2_find_files_beside_them(beside: Path) -> None:
    a, b = Component("a.img", 0), Component("b.img", 100, False, 10)
    assert read_beside(beside, a, b, length=700) == b"a" * 100 + b"b" * 600


def test_composites_of_version_1_look_from_the_working_directory(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = Component("disk/a.img", 0)
    monkeypatch.chdir(beside.parent)
    assert read_beside(beside, component, length=5, version=1) == b"aaaaa"
    with pytest.raises(ImageError, match="cannot open"):
        read_beside(beside, Component("a.img", 0), length=5, version=1)
    assert read_beside(beside, Component(str(beside / "a.img"), 0), length=5, version=1) == b"aaaaa"


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (Component("missing", 0), "cannot open .*missing': No such file"),
        (Component("a\0b", 0), "cannot open .*null"),
        (Component("", 0), "neither a regular file nor a block device"),
        (Component("/dev/zero", 0), "neither a regular file nor a block device"),
        (Component("a.img", 0, False, 901), "has 1000 bytes, 1001 are needed"),
        (Component("a.img", 0, False, 1 << 63), "has 1000 bytes"),
        (Component("composite.img", 0), "consists of other files"),
    ],
)
def test_hostile_composites(beside: Path, component: Component, message: str) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(ImageError, match=message):
        read_beside(
            beside,
            Component("b.img", 0),
            Component(component.path, 50, False, component.file_offset),
            length=150,
        )
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_pipes_named_by_a_composite_do_not_block(beside: Path) -> None:
    os.mkfifo(beside / "pipe")
    with pytest.raises(ImageError, match="neither"):
        read_beside(beside, Component("pipe", 0), length=5)


def test_composites_are_opened_only_if_asked(make_file: MakeFile) -> None:
    fd = make_file(CompositeDisk((Component("/etc/passwd", 0),), 10).encode())
    with pytest.raises(UnsupportedImage, match="consists of other files"):
        open_image(fd)


def test_the_composites_own_files_are_closed(beside: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    parts = [Component("a.img", 0), Component("b.img", 10), Component("a.img", 20)]
    assert read_beside(beside, *parts, length=30) == b"a" * 10 + b"-" * 10 + b"a" * 10
    assert set(Path("/proc/self/fd").iterdir()) == before


windows = st.tuples(st.integers(0, 70000), st.integers(0, 70000))


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=5), st.lists(windows, max_size=5))
@settings(max_examples=50)
def test_any_window_of_an_assembled_disk(sizes: list[int], wanted: list[tuple[int, int]]) -> None:
    with contextlib.ExitStack() as stack:
        parts = []
        for number, size in enumerate(sizes):
            fd = os.memfd_create("part")
            stack.callback(os.close, fd)
            os.write(fd, bytes([number + 1]) * size)
            parts.append(Partition(str(number), fd))
        disk = stack.enter_context(open_disk(PartitionedDisk(tuple(parts))))
        whole = disk.pread(disk.size, 0)
        assert len(whole) == disk.size
        assert b"".join(data for _offset, data in disk.chunks()) == whole
        for size, offset in wanted:
            assert disk.pread(size, offset) == whole[offset : offset + size]


@given(
    st.sampled_from(["512", "4k", "64k"]),
    st.lists(
        st.tuples(
            st.sampled_from(["write -P 7", "write -P 8", "write -z", "write -z -u", "discard"]),
            st.integers(0, 4000),
            st.integers(1, 96),
        ),
        max_size=12,
    ),
)
@settings(max_examples=15, deadline=None)
def test_whatever_qemu_writes_is_read(cluster: str, writes: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "image")
        run("qemu-img", "create", "-f", "qcow2", "-o", f"cluster_size={cluster}", str(path), "2M")
        commands = [f"{what} {at * 512} {count * 512}" for what, at, count in writes]
        io = ("qemu-io", "-d", "unmap", "-f", "qcow2")
        run(*io, *(part for one in commands for part in ("-c", one)), "-c", "flush", str(path))
        expected = converted(path)
        with path.open("rb") as file, open_image(file.fileno()) as image:
            assert image.pread(image.size, 0) == expected
            check_qcow2(file.fileno())
