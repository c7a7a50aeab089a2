"""Files of an archive as one run of bytes, read in any order."""

import os
import random
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avf.guest.unpacked import SMALL, Unpacked
from avf.guest.ziptree import ZipTree, ZipTreeError

BLOCK = 4096
RANDOM = random.Random(11)
SIZES = (1, 4095, 4096, 4097, SMALL, SMALL + 1, 262_143, 262_144, 262_145, 1_500_000)


def noise(size: int) -> bytes:
    """What can be compressed, but not to nothing."""
    return RANDOM.randbytes(size // 2 + 1).hex().encode()[:size]


CONTENTS = {f"{method}-{size}": noise(size) for method in (0, 8) for size in SIZES}


class Opened:
    """An archive whose files are all unpacked."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)
        self.tree = ZipTree(self.fd)
        self.unpacked = Unpacked(self.fd, self.tree)
        self.starts = {
            inode.entry.name: self.unpacked.add(inode) * BLOCK
            for inode in self.tree.files()
            if inode.entry
        }


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in CONTENTS.items():
            archive.writestr(name, data, int(name.partition("-")[0]))
    opened = Opened(path)
    yield opened
    os.close(opened.fd)


@pytest.fixture(scope="module")
def expected() -> bytes:
    return b"".join(data + bytes(-len(data) % BLOCK) for data in CONTENTS.values())


def test_all_at_once(opened: Opened, expected: bytes) -> None:
    assert opened.unpacked.size == len(expected)
    assert opened.unpacked.read(0, len(expected)) == expected


def test_an_end(opened: Opened, expected: bytes) -> None:
    assert opened.unpacked.read(len(expected) - 10, 100) == expected[-10:]
    assert opened.unpacked.read(len(expected), 100) == b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4_500_000), st.integers(1, 1 << 19)), max_size=6))
def test_any_order(opened: Opened, expected: bytes, reads: list[tuple[int, int]]) -> None:
    for offset, length in reads:
        assert opened.unpacked.read(offset, length) == expected[offset : offset + length]


def broken(tmp_path: Path, size: int, method: int, position: int) -> Opened:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", noise(size), method)
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    return Opened(path)


@pytest.mark.parametrize("position", [0, 8, 27, 30, 40, 1000])
def test_a_small_file_that_is_broken_gives_nothing(position: int, tmp_path: Path) -> None:
    opened = broken(tmp_path, 4096, zipfile.ZIP_DEFLATED, position)
    for _ in range(2):
        with pytest.raises(ZipTreeError):
            opened.unpacked.read(0, 1)


def test_a_large_file_is_good_up_to_where_it_is_broken(tmp_path: Path) -> None:
    opened = broken(tmp_path, 2_000_000, zipfile.ZIP_DEFLATED, 700_000)
    assert opened.unpacked.read(0, 262_144)
    for _ in range(2):
        with pytest.raises(ZipTreeError):
            opened.unpacked.read(1_999_000, 10)
    assert opened.unpacked.read(0, 262_144)


@pytest.mark.parametrize(("field", "value"), [(20, 1 << 30), (24, 5_000), (24, 3_000), (16, 7)])
def test_records_that_lie(field: int, value: int, tmp_path: Path) -> None:
    """Compressed size, size and CRC-32 in the central directory."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", noise(4000), zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    header = content.index(b"PK\1\2")
    content[header + field : header + field + 4] = value.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ZipTreeError):
        Opened(path).unpacked.read(0, BLOCK)


def test_going_back_in_a_large_file_does_not_begin_again(
    opened: Opened, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = opened.starts["8-1500000"]
    opened.unpacked.read(start, 1_500_000)
    opened.unpacked.read(0, 2_000_000)  # pieces of other files take the place of this one's
    stream = next(iter(opened.unpacked._streams.values()))
    read: list[int] = []
    original = type(stream)._read
    monkeypatch.setattr(type(stream), "_read", lambda self: read.append(1) or original(self))
    at = start + 1_300_000
    assert opened.unpacked.read(at, 100) == expected[at : at + 100]
    assert len(read) <= 2


def test_a_bomb_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x", "w") as file,
    ):
        for _ in range(64):
            file.write(bytes(1 << 20))
    opened = Opened(path)
    tracemalloc.start()
    try:
        for offset in (60 << 20, 0, 30 << 20):
            assert opened.unpacked.read(offset, 1 << 17) == bytes(1 << 17)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
