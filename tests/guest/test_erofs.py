"""The EROFS writer, checked by the programs of erofs-utils."""

import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avf.guest.erofs import (
    BLOCK,
    INLINE_MAX,
    SLOT,
    ErofsError,
    allot,
    inline_file,
    metadata,
    plain_file,
    superblock,
)
from tests.guest.erofs_image import contents, extracted

DIRECTORY = stat.S_IFDIR | 0o500


@dataclass
class Node:
    mode: int = DIRECTORY
    size: int = 0
    block: int = 0
    slot: int | None = None
    children: dict[str, "Node"] = field(default_factory=dict)


def file(size: int = 0, mode: int = 0o400) -> Node:
    return Node(stat.S_IFREG | mode, size)


def tree(paths: dict[str, Node]) -> Node:
    root = Node()
    for path, node in paths.items():
        *above, name = path.split("/")
        directory = root
        for part in above:
            directory = directory.children.setdefault(part, Node())
        directory.children[name] = node
    return root


def written(root: Node, data: bytes = b"") -> bytes:
    """An image with `data`, whole blocks, from block 1 on."""
    first = 1 + len(data) // BLOCK
    made = metadata(root, first, 6000)
    assert len(made.data) % BLOCK == 0
    return superblock(first, first + len(made.data) // BLOCK, made.inodes) + data + made.data


def listed(data: bytes, path: str, folder: Path) -> str:
    image = folder / "listed.img"
    image.write_bytes(data)
    command = ["dump.erofs", f"--path={path}", image]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_files_and_directories(tmp_path: Path) -> None:
    data = b"one".ljust(BLOCK, b"\0") + bytes(range(256)) * 32
    one, two = file(3), file(8000, 0o751)
    one.block, two.block = 1, 2
    image = written(tree({"one": one, "a/b/two": two, "a/empty": file(), "d": Node()}), data)
    assert contents(extracted(image, tmp_path)) == {
        "one": b"one",
        "a": None,
        "a/b": None,
        "a/b/two": (bytes(range(256)) * 32)[:8000],
        "a/empty": b"",
        "d": None,
    }
    shown = listed(image, "/a/b/two", tmp_path)
    assert "Size: 8000" in shown
    assert "Uid: 6000   Gid: 6000  Access: 0751/" in shown
    assert "1970-01-01" in shown


def test_inodes_behind_the_metadata(tmp_path: Path) -> None:
    contents_of = {f"d/{size}": b"x" * size for size in (1, 100, 4000, INLINE_MAX)}
    nodes = {path: file(len(data)) for path, data in contents_of.items()}
    near, end = bytearray(), 0
    for path, node in nodes.items():
        start = allot(end, SLOT + node.size)
        node.slot = start // SLOT
        near += bytes(start - end) + inline_file(node.mode, node.size, 6000) + contents_of[path]
        end = len(near)
    nodes["d/plain"] = file(BLOCK)
    nodes["d/plain"].slot = allot(end, SLOT) // SLOT
    near = near.ljust(nodes["d/plain"].slot * SLOT, b"\0") + plain_file(0o100400, BLOCK, 6000, 1)
    data = b"plain".ljust(BLOCK, b"!")
    made = metadata(tree({**nodes, "big/" + "n" * 200 + "/x": file()}), 2, 6000)
    blocks = -(-len(near) // BLOCK)
    block_0 = superblock(2, 2 + len(made.data) // BLOCK + blocks, made.inodes)
    image = block_0 + data + made.data + near.ljust(blocks * BLOCK, b"\0")
    assert contents_of.items() < contents(extracted(image, tmp_path)).items()
    assert contents(tmp_path / "extracted")["d/plain"] == data


def test_links_of_directories(tmp_path: Path) -> None:
    image = written(tree({"a/b/x": file(), "a/c/x": file(), "a/y": file()}))
    assert "Links: 4" in listed(image, "/a", tmp_path)
    assert "Links: 2" in listed(image, "/a/b", tmp_path)


@pytest.mark.parametrize("count", [1, 200, 201, 202, 3000])
def test_directories_of_any_size(count: int, tmp_path: Path) -> None:
    names = [f"d/{number:05}{'x' * (number % 240)}" for number in range(count)]
    image = written(tree({name: file() for name in names}))
    assert contents(extracted(image, tmp_path)) == {"d": None} | dict.fromkeys(names, b"")


@pytest.mark.parametrize("used", [4040, *range(4062, 4068), *range(4094, 4099)])
def test_last_blocks_of_directories_around_the_size_that_fits_behind_the_inode(
    used: int, tmp_path: Path
) -> None:
    wanted = used - 12 * 2 - 3  # less "." and ".."
    names = [f"d/{number:02}{'x' * 186}" for number in range(wanted // 200)]
    if rest := wanted % 200 - 12:
        names.append("d/" + "y" * rest if rest > 0 else "d/z")
    image = written(tree({name: file() for name in names}))
    assert contents(extracted(image, tmp_path)) == {"d": None} | dict.fromkeys(names, b"")


def test_deep_directories(tmp_path: Path) -> None:
    path = "/".join(["deep"] * 60) + "/x"
    assert path in contents(extracted(written(tree({path: file()})), tmp_path))


def test_eight_thousand_directories_take_little_memory() -> None:
    made = metadata(tree({f"d{number}/x": file() for number in range(8000)}), 1, 6000)
    assert made.inodes == 16_001
    assert len(made.data) < 200 * 8000


@pytest.mark.parametrize("name", ["n" * 256, "ü" * 128])
def test_names_that_are_too_long(name: str) -> None:
    with pytest.raises(ErofsError, match="has 256 bytes, 255 are possible"):
        metadata(tree({name: file()}), 1, 6000)


NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(st.lists(NAMES, unique=True, max_size=40))
def test_names_in_any_order(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names")
    image = written(tree({name: file() for name in names}))
    assert contents(extracted(image, folder)) == dict.fromkeys(names, b"")
