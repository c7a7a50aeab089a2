"""The Merkle tree of fs-verity and dm-verity: SHA-256 over 4096-byte blocks, top level stored first.

A file of at most one block has no tree: its root hash is the hash of that block (of zeros for an empty file, where
fs-verity has a root of zeros). Source: the kernel's
Documentation/filesystems/fsverity.rst, "Merkle tree". The same tree serves `apksigner`'s v4 scheme.
"""

import hashlib
from collections.abc import Callable
from typing import TypeAlias

from avf.apk.source import Source, page_buffer

BLOCK_SIZE = 4096
HASH_SIZE = 32
READ_SIZE = 1 << 20
BUFFER_SIZE = 256 << 10
_HASHES_PER_BLOCK = BLOCK_SIZE // HASH_SIZE
_SALT_UNIT = 64

Sink: TypeAlias = Callable[[int, bytes], None]
"""Takes bytes of the tree and their offset in it. Each byte comes exactly once, levels interleaved."""


def level_sizes(size: int) -> list[int]:
    """Bytes in each level of the tree over `size` bytes, leaves first; empty for up to one block."""
    sizes = []
    while size > BLOCK_SIZE:
        blocks = -(-size // BLOCK_SIZE)
        size = -(-blocks // _HASHES_PER_BLOCK) * BLOCK_SIZE
        sizes.append(size)
    return sizes


def tree_size(size: int) -> int:
    """Bytes in the whole tree over `size` bytes."""
    return sum(level_sizes(size))


def level_offsets(size: int) -> list[int]:
    """Where each level begins in the tree, leaves first."""
    return _offsets(level_sizes(size))


def _offsets(sizes: list[int]) -> list[int]:
    return [sum(sizes[level + 1 :]) for level in range(len(sizes))]


def pad_salt(salt: bytes) -> bytes:
    """The salt as it is hashed before every block: zero-padded to SHA-256's compression block."""
    return salt + bytes(-len(salt) % _SALT_UNIT)


def hash_blocks(data: memoryview, salt: bytes = b"") -> bytes:
    """The digests of all blocks of `data`, whose length is a multiple of 4096. `salt` is used as it is."""
    return _hash_each(_blocks_of(data), salt)


def _blocks_of(data: memoryview) -> list[memoryview]:
    return [data[start : start + BLOCK_SIZE] for start in range(0, len(data), BLOCK_SIZE)]


def _hash_each(blocks: list[memoryview], salt: bytes) -> bytes:
    sha256 = hashlib.sha256
    if not salt:
        return b"".join([sha256(block).digest() for block in blocks])
    salted = sha256(salt)
    digests = []
    for block in blocks:
        made = salted.copy()
        made.update(block)
        digests.append(made.digest())
    return b"".join(digests)


def build(source: Source, salt: bytes, sink: Sink) -> bytes:
    """Hash all of `source`, hand its tree to `sink` piece by piece, return the root hash. Memory use is fixed."""
    tree = TreeBuilder(level_sizes(source.size), pad_salt(salt), sink)
    Feeder(tree, source).feed(0, source.size)
    return tree.finish()


class Feeder:
    """Hashes a source for a tree, through one buffer."""

    def __init__(self, tree: "TreeBuilder", source: Source) -> None:
        self._tree = tree
        self._source = source
        self._buffer = page_buffer(min(BUFFER_SIZE, _round_up(max(source.size, 1))))
        self._blocks = _blocks_of(self._buffer)

    def feed(self, start: int, end: int) -> None:
        """Hash the bytes from `start`, a multiple of 4096, to `end`, another one or the last."""
        for offset in range(start, end, len(self._buffer)):
            length = min(len(self._buffer), end - offset)
            self._source.read_into(self._buffer[:length], offset)
            padded = _round_up(length)
            self._buffer[length:padded] = bytes(padded - length)
            self._tree.add_blocks(self._blocks[: padded // BLOCK_SIZE])


def build_in_memory(source: Source, salt: bytes = b"") -> tuple[bytes, bytes]:
    """(root hash, tree)."""
    tree = bytearray(tree_size(source.size))

    def keep(offset: int, data: bytes) -> None:
        tree[offset : offset + len(data)] = data

    return build(source, salt, keep), bytes(tree)


class TreeBuilder:
    """Levels of given sizes that fill from below; `_pending[n]` holds the digests of level n that make no whole
    block yet. `salt` is used as it is."""

    def __init__(self, sizes: list[int], salt: bytes, sink: Sink) -> None:
        self._salt = salt
        self._sink = sink
        self._offsets = _offsets(sizes)
        self._pending = [bytearray() for _ in self._offsets]
        self._root = b""

    def add(self, blocks: memoryview) -> None:
        """Hash the next blocks of the file, a multiple of 4096 bytes."""
        self.add_blocks(_blocks_of(blocks))

    def add_blocks(self, blocks: list[memoryview]) -> None:
        """Hash the next blocks of the file, one by one."""
        self._push(0, _hash_each(blocks, self._salt))

    def add_digests(self, digests: bytes) -> None:
        """Take the digests of the next blocks as they are."""
        self._push(0, digests)

    def finish(self) -> bytes:
        """Pad and flush every level, bottom up; returns the root hash."""
        for level, pending in enumerate(self._pending):
            if pending:
                self._push(level, bytes(-len(pending) % BLOCK_SIZE))
        return self._root or hash_blocks(memoryview(bytes(BLOCK_SIZE)), self._salt)

    def _push(self, level: int, digests: bytes) -> None:
        if level == len(self._offsets):
            self._root = digests
            return
        pending = self._pending[level]
        pending += digests
        whole = len(pending) // BLOCK_SIZE * BLOCK_SIZE
        if not whole:
            return
        blocks = bytes(pending[:whole])
        del pending[:whole]
        self._sink(self._offsets[level], blocks)
        self._offsets[level] += whole
        self._push(level + 1, hash_blocks(memoryview(blocks), self._salt))


def _round_up(size: int) -> int:
    return -(-size // BLOCK_SIZE) * BLOCK_SIZE
