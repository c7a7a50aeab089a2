"""Reading through a Merkle tree: the right bytes, and never one of a wrong block."""

import io
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avf.apk import TreeMismatch, merkle, tree_check
from avf.apk.source import FileSource
from avf.apk.tree_check import CheckedReader, Tree
from tests.apk.test_merkle import SALTS, SIZES, content

POWERS = [4096 * 128, 4096 * 128 + 1, 4096 * 128 * 2]


def opened(data: bytes, salt: bytes = b"", *, tree: bytes | None = None) -> CheckedReader:
    root, built = merkle.build_in_memory(FileSource(io.BytesIO(data)), salt)
    source = FileSource(io.BytesIO(built if tree is None else tree))
    return CheckedReader(FileSource(io.BytesIO(data)), Tree(source, 0, len(data), root, salt))


@pytest.mark.parametrize("salt", SALTS)
@pytest.mark.parametrize("size", [*SIZES, *POWERS])
def test_the_bytes_are_those_of_the_file(size: int, salt: bytes) -> None:
    with opened(content(size), salt) as reader:
        assert reader.read() == content(size)
        assert reader.seek(-10, os.SEEK_END) == size - 10 if size >= 10 else True


@given(
    size=st.integers(0, 600_000),
    reads=st.lists(st.tuples(st.integers(0, 610_000), st.integers(0, 20_000)), max_size=8),
)
@settings(max_examples=40)
def test_any_reads_in_any_order(size: int, reads: list[tuple[int, int]]) -> None:
    data = content(size)
    with opened(data) as reader:
        for offset, length in reads:
            reader.seek(offset)
            assert reader.read(length) == data[offset : offset + length]


def test_the_tree_of_the_c_tool_will_do(tmp_path: Path) -> None:
    data, tree = tmp_path / "data", tmp_path / "tree"
    data.write_bytes(content(3_000_001))
    subprocess.run(["fsverity", "digest", f"--out-merkle-tree={tree}", str(data)], check=True)
    with opened(data.read_bytes(), tree=tree.read_bytes()) as reader:
        assert reader.read() == data.read_bytes()


def flip(data: bytes, offset: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 0x10
    return bytes(changed)


@given(st.data())
@settings(max_examples=60)
def test_a_wrong_byte_of_the_file_spoils_its_block_alone(choice: st.DataObject) -> None:
    size = choice.draw(st.sampled_from([1, 4096, 5000, 600_000]))
    where = choice.draw(st.integers(0, size - 1))
    data = content(size)
    root, built = merkle.build_in_memory(FileSource(io.BytesIO(data)))
    tree = Tree(FileSource(io.BytesIO(built)), 0, size, root)
    tree.check()
    bad = FileSource(io.BytesIO(flip(data, where)))
    block = where // 4096 * 4096
    with pytest.raises(TreeMismatch, match=f"the block at byte {block} is not") as caught:
        tree.check_data(bad)
    assert caught.value.offset == block
    for offset in range(0, size, 4096):
        if offset == block:
            with pytest.raises(TreeMismatch):
                tree.read_checked(bad, where, 1)
        else:
            length = min(4096, size - offset)
            assert tree.read_checked(bad, offset, length) == data[offset : offset + length]


@pytest.mark.parametrize("where", [*range(0, 12288, 97), 12287])
def test_a_wrong_byte_of_the_tree_is_found(where: int) -> None:
    """Two levels: a block of digests over two of leaves, of which the second is half padding."""
    data = content(4096 * 200)
    root, built = merkle.build_in_memory(FileSource(io.BytesIO(data)))
    assert len(built) == 12288
    tree = Tree(FileSource(io.BytesIO(flip(built, where))), 0, len(data), root)
    level, index = (1, 0) if where < 4096 else (0, where // 4096 - 1)
    with pytest.raises(TreeMismatch, match=f"block {index} of level {level} of the tree") as caught:
        tree.check()
    assert caught.value.offset == where // 4096 * 4096
    first = {(1, 0): 0, (0, 0): 0, (0, 1): 128}[level, index]
    with pytest.raises(TreeMismatch, match=f"block {index} of level {level} of the tree"):
        tree.read_checked(FileSource(io.BytesIO(data)), first * 4096, 1)


def test_another_root_hash_spoils_everything() -> None:
    for size in (10, 4096 * 200):
        data = content(size)
        _, built = merkle.build_in_memory(FileSource(io.BytesIO(data)))
        tree = Tree(FileSource(io.BytesIO(built)), 0, size, bytes(32))
        with pytest.raises(TreeMismatch):
            tree.read_checked(FileSource(io.BytesIO(data)), 0, 1)
        with pytest.raises(TreeMismatch):
            tree.check()
            tree.check_data(FileSource(io.BytesIO(data)))


def test_an_empty_file_has_a_root_too() -> None:
    root, _ = merkle.build_in_memory(FileSource(io.BytesIO()))
    empty = FileSource(io.BytesIO())
    Tree(empty, 0, 0, root).check_data(empty)
    with pytest.raises(TreeMismatch):
        Tree(empty, 0, 0, bytes(32)).check_data(empty)


def test_few_blocks_of_the_tree_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_check, "_CACHED_BLOCKS", 3)
    data = content(4096 * 128 * 6)
    root, built = merkle.build_in_memory(FileSource(io.BytesIO(data)))
    tree = Tree(FileSource(io.BytesIO(built)), 0, len(data), root)
    reader = CheckedReader(FileSource(io.BytesIO(data)), tree)
    assert reader.read() == data
    assert len(tree._checked) == 3


def test_positions() -> None:
    with opened(content(100)) as reader:
        assert reader.readable()
        assert reader.seekable()
        assert not reader.writable()
        assert reader.seek(90) == 90
        assert (reader.seek(5, os.SEEK_CUR), reader.tell()) == (95, 95)
        assert reader.read(10) == content(100)[95:]
        assert reader.seek(1000) == 1000
        assert reader.read(1) == b""
        with pytest.raises(ValueError, match="negative position -1"):
            reader.seek(-1)
