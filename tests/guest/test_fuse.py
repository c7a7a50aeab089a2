"""The ZIP file system: trees of real archives, and the FUSE protocol as the kernel speaks it."""

import errno
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avf.guest.fuse import Server
from avf.guest.ziptree import ROOT, ZipTree, ZipTreeError

BIG = bytes(range(256)) * 1000


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("stored.bin", BIG)
        file.writestr("assets/packed.txt", b"text " * 5000, zipfile.ZIP_DEFLATED)
        file.writestr("assets/deep/er/x", b"")
        info = zipfile.ZipInfo("bin/tool")
        info.external_attr = (stat.S_IFREG | 0o640) << 16
        file.writestr(info, b"#!/bin/sh\n")
        info = zipfile.ZipInfo("lib/x86_64/plain.so")
        info.create_system, info.external_attr = 0, 0
        file.writestr(info, b"\x7fELF")
        file.mkdir("empty")
    return path


@pytest.fixture
def tree(archive: Path) -> Iterator[ZipTree]:
    fd = os.open(archive, os.O_RDONLY)
    yield ZipTree(fd, executable=("bin", "lib/x86_64"))
    os.close(fd)


def read_all(tree: ZipTree, path: str, step: int = 10_000) -> bytes:
    inode = tree.find(path)
    assert inode is not None
    tree.open(inode)
    pieces = [tree.read(inode, offset, step) for offset in range(0, inode.size + step, step)]
    tree.close(inode)
    return b"".join(pieces)


def test_contents(tree: ZipTree) -> None:
    assert read_all(tree, "stored.bin") == BIG
    assert read_all(tree, "assets/packed.txt") == b"text " * 5000
    assert read_all(tree, "assets/deep/er/x") == b""


def test_modes(tree: ZipTree) -> None:
    modes = {
        path: inode.mode if (inode := tree.find(path)) else None
        for path in ("assets", "empty", "bin/tool", "lib/x86_64/plain.so", "assets/packed.txt")
    }
    assert modes == {
        "assets": stat.S_IFDIR | 0o500,
        "empty": stat.S_IFDIR | 0o500,
        "bin/tool": stat.S_IFREG | 0o740,
        "lib/x86_64/plain.so": stat.S_IFREG | 0o500,
        "assets/packed.txt": stat.S_IFREG | 0o600,
    }


def test_a_packed_file_stays_inflated_until_the_last_user_closes_it(tree: ZipTree) -> None:
    inode = tree.find("assets/packed.txt")
    assert inode
    tree.open(inode)
    tree.open(inode)
    tree.close(inode)
    assert tree.read(inode, 5, 4) == b"text"
    tree.close(inode)
    with pytest.raises(KeyError):
        tree.read(inode, 0, 1)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/../../b", "a//b", "./x", "/".join("d" * 70)]
)
def test_names_that_lead_astray(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, b"")
    with path.open("rb") as opened, pytest.raises(ZipTreeError, match="leads out"):
        ZipTree(opened.fileno())


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "a"], "occurs twice"), (["a", "a/b"], "below a file"), (["a/b", "a"], "occurs twice")],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_in_conflict(tmp_path: Path, names: list[str], message: str) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"")
    with path.open("rb") as opened, pytest.raises(ZipTreeError, match=message):
        ZipTree(opened.fileno())


def test_damaged_data_fail_when_opened(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    position = content.index(b"assets/packed.txt") + len("assets/packed.txt") + 4
    content[position] ^= 0xFF
    archive.write_bytes(content)
    with archive.open("rb") as file:
        tree = ZipTree(file.fileno())
        inode = tree.find("assets/packed.txt")
        assert inode
        with pytest.raises(ZipTreeError):
            tree.open(inode)


def ask(server: Server, opcode: int, node: int, body: bytes = b"") -> tuple[int, bytes]:
    """(errno, body of the reply) for one request."""
    size = 40 + len(body)
    reply = server.answer(struct.pack("<IIQQIIIxxxx", size, opcode, 77, node, 0, 0, 1) + body)
    assert reply is not None
    length, error, unique = struct.unpack_from("<IiQ", reply)
    assert (length, unique) == (len(reply), 77)
    return -error, reply[16:]


@pytest.fixture
def server(tree: ZipTree) -> Server:
    server = Server(tree)
    error, reply = ask(server, 26, 0, struct.pack("<IIII", 7, 38, 128 << 10, 0xFFFFFFFF))
    assert error == 0
    assert struct.unpack_from("<II", reply) == (7, 31)
    assert len(reply) == 64
    return server


def lookup(server: Server, parent: int, name: str) -> tuple[int, int, int]:
    """(inode number, mode, size); number 0: there is no such entry."""
    error, reply = ask(server, 1, parent, name.encode() + b"\0")
    assert error == 0
    number = struct.unpack_from("<Q", reply)[0]
    return (
        number,
        struct.unpack_from("<I", reply, 40 + 60)[0],
        struct.unpack_from("<Q", reply, 40 + 8)[0],
    )


def test_lookup_and_read(server: Server) -> None:
    assets, mode, _ = lookup(server, ROOT, "assets")
    assert stat.S_ISDIR(mode)
    number, mode, size = lookup(server, assets, "packed.txt")
    assert stat.S_ISREG(mode)
    assert size == 25_000
    assert ask(server, 14, number, struct.pack("<II", os.O_RDONLY, 0))[0] == 0
    error, data = ask(server, 15, number, struct.pack("<QQIIQII", 0, 24_990, 4096, 0, 0, 0, 0))
    assert (error, data) == (0, b"text text ")
    assert ask(server, 18, number, bytes(24)) == (0, b"")


def test_what_is_not_there(server: Server) -> None:
    assert lookup(server, ROOT, "absent")[0] == 0
    assert ask(server, 3, 4711)[0] == errno.ESTALE


def test_nothing_can_be_written(server: Server) -> None:
    number, _, _ = lookup(server, ROOT, "stored.bin")
    assert ask(server, 14, number, struct.pack("<II", os.O_RDWR, 0))[0] == errno.EROFS
    for opcode in (
        4,
        6,
        8,
        9,
        10,
        11,
        12,
        16,
        35,
    ):  # setattr, symlink, mknod, mkdir, unlink, rmdir, rename, write, create
        assert ask(server, opcode, ROOT, bytes(100))[0] == errno.ENOSYS


def test_directories_in_pieces(server: Server) -> None:
    names = []
    offset = 0
    while True:
        error, data = ask(server, 28, ROOT, struct.pack("<QQIIQII", 0, offset, 64, 0, 0, 0, 0))
        assert error == 0
        if not data:
            break
        position = 0
        while position < len(data):
            _, offset, length, kind = struct.unpack_from("<QQII", data, position)
            names.append((data[position + 24 : position + 24 + length].decode(), kind))
            position += (24 + length + 7) // 8 * 8
    assert names == [
        (".", 4),
        ("..", 4),
        ("stored.bin", 8),
        ("assets", 4),
        ("bin", 4),
        ("lib", 4),
        ("empty", 4),
    ]


def test_malformed_requests_are_answered_with_an_error(server: Server) -> None:
    assert server.answer(b"short") is None
    number, _, _ = lookup(server, ROOT, "stored.bin")
    assert ask(server, 14, number, b"")[0] == errno.EIO
    assert ask(server, 15, number, b"\0" * 8)[0] == errno.EIO


def test_forgetting_has_no_answer(server: Server) -> None:
    for opcode in (2, 36, 42):
        assert server.answer(struct.pack("<IIQQIIIxxxx", 40, opcode, 1, 1, 0, 0, 1)) is None


def test_a_packed_file_larger_than_memory_is_not_opened(tree: ZipTree, server: Server) -> None:
    assets, _, _ = lookup(server, ROOT, "assets")
    number, _, _ = lookup(server, assets, "packed.txt")
    tree._max_inflated = 1000
    assert ask(server, 14, number, struct.pack("<II", os.O_RDONLY, 0))[0] == errno.EFBIG


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 60), st.integers(0, 20), st.binary(max_size=80))
def test_no_request_stops_the_server(server: Server, opcode: int, node: int, body: bytes) -> None:
    request = struct.pack("<IIQQIIIxxxx", 40 + len(body), opcode, 5, node, 0, 0, 1) + body
    reply = server.answer(request)
    if reply is not None:
        length, error, unique = struct.unpack_from("<IiQ", reply)
        assert (length, unique) == (len(reply), 5)
        assert error <= 0
