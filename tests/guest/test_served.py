"""The file of an APK's image that is made while it is read, and what is read ahead of it."""

import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.guest.erofs import BLOCK, SLOT
from avf.guest.near import NEAR_MAX, NearFiles
from avf.guest.served import ReadAhead, Served, ServedFile
from avf.guest.unpacked import Unpacked
from avf.guest.ziptree import ROOT, ZipTree

SMALL = {f"{number}": bytes([number]) * (number * 30 + 1) for number in range(100)}
MIDDLE = {f"m{number}": b"middle%d" % number * 1000 for number in range(60)}


class Asked(ReadAhead):
    """Only writes down what is expected."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def expect(self, offset: int) -> None:
        self.heard.append(offset)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (SMALL | MIDDLE).items():
            archive.writestr(name, data)
    fd = os.open(path, os.O_RDONLY)
    tree = ZipTree(fd)
    unpacked = Unpacked(fd, tree)
    near = NearFiles(unpacked)
    for inode in tree.files():
        if inode.size <= NEAR_MAX:
            inode.slot = near.add(inode)
        else:
            inode.block = unpacked.add(inode)
    yield Served(near, unpacked)
    os.close(fd)


def test_near_files_lie_behind_their_inodes_within_a_block(served: Served) -> None:
    data = served.read(0, served.near.size)
    for inode, start in zip(served.near._files, served.near._starts, strict=True):
        assert start // BLOCK == (start + SLOT + inode.size - 1) // BLOCK
        assert inode.entry is not None
        assert data[start + SLOT :][: inode.size] == SMALL[inode.entry.name]


def test_all_reads_agree(served: Served) -> None:
    size = served.blocks * BLOCK
    whole = served.read(0, size)
    assert len(whole) == size
    for step in (BLOCK, 3 * BLOCK, 128 << 10):
        pieces = [served.read(offset, step) for offset in range(0, size, step)]
        assert b"".join(pieces) == whole


def test_only_lone_reads_of_small_files_are_followed_by_more(served: Served) -> None:
    near, small = Asked(), Asked()
    file = ServedFile(served, near, small)
    directory = file.inode(ROOT)
    assert directory is not None
    inode = directory.children[ServedFile.NAME]
    assert file.inode(inode.number) is inode
    assert file.inode(inode.number + 1) is None
    assert inode.size == served.blocks * BLOCK
    file.read(inode, BLOCK, BLOCK)
    file.read(inode, served.near.size + BLOCK, BLOCK)
    file.read(inode, 0, 128 << 10)
    assert (near.heard, small.heard) == ([BLOCK], [BLOCK])


def test_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(300 << 10))
    asked: list[tuple[int, int]] = []
    done = threading.Semaphore(0)

    def advise(fd: int, offset: int, length: int, advice: int) -> None:
        assert os.fstat(fd).st_size == 300 << 10
        assert advice == os.POSIX_FADV_WILLNEED
        asked.append((offset, length))
        done.release()

    monkeypatch.setattr(os, "posix_fadvise", advise)
    ahead = ReadAhead(str(path), 4096, 200 << 10)
    for offset in (5000, 140 << 10):
        ahead.expect(offset)
        assert done.acquire(timeout=30)
    assert asked == [(4096, 128 << 10), (4096 + (128 << 10), 72 << 10)]
