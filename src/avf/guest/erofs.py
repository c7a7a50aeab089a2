"""Writes the metadata of an EROFS file system whose files lie elsewhere on the same device, each in one run of blocks.

Source: fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst of Linux. What is used of the format: blocks of
4096 bytes, compact inodes, plain files, directories whose last block lies behind their inode where it fits. Linux 5.4
and all later ones read that.
"""

import stat
import struct
from collections.abc import Mapping
from typing import Protocol

from avf.named import NamedTuple

BLOCK = 4096
NAME_MAX = 255
SLOT = 32
"""What inode numbers count; the size of an inode."""
INLINE_MAX = BLOCK - SLOT
"""So many bytes of data fit behind their inode."""

_SUPERBLOCK_OFFSET = 1024
_MAGIC = 0xE0F5E1E2
_BLOCK_BITS = 12
_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHBBIQ24x")
_INODE = struct.Struct("<HHHHIIIIHHI")
_DIRENT = struct.Struct("<QHBB")
_PLAIN, _INLINE = 0 << 1, 2 << 1
_NO_BLOCK = 0xFFFF_FFFF
_MAX_LINKS = 0xFFFF
_REGULAR, _DIRECTORY = 1, 2


class ErofsError(ValueError):
    """A tree that this format cannot hold."""


class Node(Protocol):
    """A file of `size` bytes or a directory of `children` by name; `mode` says which.

    The data of a file begin in `block`. If `slot` is not None, its inode is not written here, but lies so many times
    SLOT bytes behind the metadata.
    """

    @property
    def mode(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def block(self) -> int: ...
    @property
    def slot(self) -> int | None: ...
    @property
    def children(self) -> Mapping[str, "Node"]: ...


class Metadata(NamedTuple):
    """`data`: whole blocks, the first of which holds the root directory's inode. `inodes`: how many there are."""

    data: bytearray
    inodes: int


def metadata(root: Node, first_block: int, owner: int) -> Metadata:
    """The inodes and directories below `root`, for the blocks of the device from `first_block` on.

    All belong to the user and group `owner`. Raises ErofsError for names longer than NAME_MAX bytes.
    """
    return _Writer(first_block, owner).write(root)


def inline_file(mode: int, size: int, owner: int) -> bytes:
    """The inode of a file whose data, at most INLINE_MAX bytes, follow it within the same block."""
    return _INODE.pack(_INLINE, 0, mode, 1, size, 0, _NO_BLOCK, 1, owner, owner, 0)


def plain_file(mode: int, size: int, owner: int, block: int) -> bytes:
    """The inode of a file whose data begin in `block`."""
    return _INODE.pack(_PLAIN, 0, mode, 1, size, 0, block, 1, owner, owner, 0)


def allot(end: int, size: int) -> int:
    """Where the next inode can lie that takes `size` bytes with what follows it, all within one block; `end`: of what
    lies before.
    """
    start = end + -end % SLOT
    return start if start % BLOCK + size <= BLOCK else start + -start % BLOCK


def superblock(first_block: int, blocks: int, inodes: int) -> bytes:
    """Block 0 of a device of so many blocks, with the metadata from `first_block` on."""
    fields = _SUPERBLOCK.pack(
        *(_MAGIC, 0, 0, _BLOCK_BITS, 0, 0, inodes, 0, 0, blocks, first_block, 0),
        *(bytes(16), bytes(16), 0, 0, 0, 0, 0, 0, 0),
    )
    return (bytes(_SUPERBLOCK_OFFSET) + fields).ljust(BLOCK, b"\0")


class _Directory:
    """A directory on its way into the metadata: its entries in the format's order, cut into blocks."""

    __slots__ = ("blocks", "last", "names", "node", "number", "parent")

    def __init__(self, node: Node, parent: "_Directory | None") -> None:
        self.node = node
        self.parent = parent or self
        self.number = 0
        names = [b".", b"..", *(_encode(name) for name in node.children)]
        self.names = sorted(names)
        self.blocks, self.last = _cut(self.names)

    @property
    def size(self) -> int:
        return (len(self.blocks) - 1) * BLOCK + self.last

    @property
    def whole_blocks(self) -> int:
        """How many of its blocks do not lie behind its inode."""
        return len(self.blocks) - _fits_inline(self.last)

    @property
    def links(self) -> int:
        """Of its own name, of its "." and of each ".." below it; more than fit are told as 1, "not counted"."""
        below = sum(stat.S_ISDIR(child.mode) for child in self.node.children.values())
        return 2 + below if 2 + below <= _MAX_LINKS else 1


class _Writer:
    """Gives each inode its place, directories first in the order of a breadth-first walk; then writes them."""

    def __init__(self, first_block: int, owner: int) -> None:
        self._first_block = first_block
        self._owner = owner
        self._end = 0
        self._data = bytearray()
        self._numbers: dict[int, int] = {}
        """id() of a file's node -> its inode number."""
        self._inodes = 0
        self._behind = 0
        """The number of an inode right behind the metadata."""

    def write(self, root: Node) -> Metadata:
        directories = [_Directory(root, None)]
        below: dict[int, _Directory] = {}
        for directory in directories:  # grows on the way
            self._number_directory(directory)
            for child in directory.node.children.values():
                if stat.S_ISDIR(child.mode):
                    directories.append(_Directory(child, directory))
                    below[id(child)] = directories[-1]
                elif child.slot is None:
                    self._numbers[id(child)] = self._allot(_INODE.size)
                else:
                    self._inodes += 1
        blocks = -(-self._end // BLOCK)
        self._data = bytearray(blocks * BLOCK)
        self._behind = (blocks + sum(one.whole_blocks for one in directories)) * (BLOCK // SLOT)
        for directory in directories:
            self._write_directory(directory, below)
        return Metadata(self._data, self._inodes)

    def _number_directory(self, directory: _Directory) -> None:
        tail = directory.last if _fits_inline(directory.last) else 0
        directory.number = self._allot(_INODE.size + tail)

    def _allot(self, size: int) -> int:
        """The number of an inode that takes `size` bytes with what lies behind it, all within one block."""
        start = allot(self._end, size)
        self._end = start + size
        self._inodes += 1
        return start // SLOT

    def _write_directory(self, directory: _Directory, below: dict[int, _Directory]) -> None:
        children = {_encode(name): child for name, child in directory.node.children.items()}
        entries = []
        for name in directory.names:
            if name in (b".", b".."):
                number = (directory if name == b"." else directory.parent).number
                entries.append((name, number, _DIRECTORY))
            elif sub := below.get(id(children[name])):
                entries.append((name, sub.number, _DIRECTORY))
            else:
                entries.append((name, self._write_file(children[name]), _REGULAR))
        pieces, at = [], 0
        for count in directory.blocks:
            pieces.append(_dirents(entries[at : at + count]))
            at += count
        tail = pieces.pop() if _fits_inline(directory.last) else b""
        block = _NO_BLOCK
        if pieces:
            block = self._first_block + len(self._data) // BLOCK
            for piece in pieces:
                self._data += piece.ljust(BLOCK, b"\0")
        _INODE.pack_into(
            self._data,
            directory.number * SLOT,
            *(_INLINE if tail else _PLAIN, 0, directory.node.mode, directory.links),
            *(directory.size, 0, block, 1, self._owner, self._owner, 0),
        )
        start = directory.number * SLOT + _INODE.size
        self._data[start : start + len(tail)] = tail

    def _write_file(self, node: Node) -> int:
        """The number of its inode."""
        if node.slot is not None:
            return self._behind + node.slot
        number = self._numbers[id(node)]
        block = node.block if node.size else _NO_BLOCK
        inode = plain_file(node.mode, node.size, self._owner, block)
        self._data[number * SLOT : number * SLOT + len(inode)] = inode
        return number


def _encode(name: str) -> bytes:
    raw = name.encode("utf-8", "surrogateescape")
    if len(raw) > NAME_MAX:
        raise ErofsError(f"the name {name[:40]!r}… has {len(raw)} bytes, {NAME_MAX} are possible")
    return raw


def _cut(names: list[bytes]) -> tuple[list[int], int]:
    """How many entries each block of a directory takes, and how many bytes the last block has."""
    counts: list[int] = []
    count = used = 0
    for name in names:
        size = _DIRENT.size + len(name)
        if used + size > BLOCK:
            counts.append(count)
            count = used = 0
        count += 1
        used += size
    return [*counts, count], used


def _dirents(entries: list[tuple[bytes, int, int]]) -> bytes:
    """A block of a directory: the records, then the names."""
    records = bytearray()
    position = len(entries) * _DIRENT.size
    for name, number, kind in entries:
        records += _DIRENT.pack(number, position, kind, 0)
        position += len(name)
    return bytes(records) + b"".join(name for name, _, _ in entries)


def _fits_inline(size: int) -> bool:
    return size <= INLINE_MAX
