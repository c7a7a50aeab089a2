"""Check files against their Merkle trees: all of one, or just the blocks that are read."""

import io
import os
from typing import Any

from avf.apk import merkle
from avf.apk.errors import TreeMismatch
from avf.apk.source import Source

_CACHED_BLOCKS = 256


class Tree:
    """The tree over `size` bytes that `source` holds from `offset` on, trusted as far as `root_hash` is.

    Not for use by several threads.
    """

    def __init__(
        self, source: Source, offset: int, size: int, root_hash: bytes, salt: bytes = b""
    ) -> None:
        self._source = source
        self._levels = [offset + start for start in merkle.level_offsets(size)]
        self._sizes = merkle.level_sizes(size)
        self._root_hash = root_hash
        self._salt = merkle.pad_salt(salt)
        self._size = size
        self._checked: dict[tuple[int, int], bytes] = {}

    def check(self) -> None:
        """Check that every block of the tree has the digest that its parent holds; TreeMismatch if not."""
        for level in reversed(range(len(self._sizes))):
            for start in range(0, self._sizes[level], merkle.READ_SIZE):
                length = min(merkle.READ_SIZE, self._sizes[level] - start)
                data = self._source.read_at(self._levels[level] + start, length)
                digests = merkle.hash_blocks(memoryview(data), self._salt)
                bad = _first_difference(digests, self._parents(level, start, len(digests)))
                if bad is not None:
                    raise self._wrong_block(level, start // merkle.BLOCK_SIZE + bad)

    def check_data(self, data: Source, *, start: int = 0) -> None:
        """Check `data` from the block of `start` on against the leaves, as they stand; TreeMismatch if they differ."""
        first = start // merkle.BLOCK_SIZE * merkle.BLOCK_SIZE
        for offset in range(first, self._size, merkle.READ_SIZE):
            length = min(merkle.READ_SIZE, self._size - offset)
            block = data.read_at(offset, length)
            count = -(-length // merkle.BLOCK_SIZE) * merkle.HASH_SIZE
            self._compare(block, offset, self._parents(-1, offset, count))
        if not self._size:
            self._compare(bytes(merkle.BLOCK_SIZE), 0, self._root_hash)

    def read_checked(self, data: Source, offset: int, length: int) -> bytes:
        """Bytes of `data`, each block of which has been checked up to the root hash; TreeMismatch if one is wrong."""
        if not length:
            return b""
        first = offset // merkle.BLOCK_SIZE
        end = min(-(-(offset + length) // merkle.BLOCK_SIZE) * merkle.BLOCK_SIZE, self._size)
        start = first * merkle.BLOCK_SIZE
        blocks = data.read_at(start, end - start)
        count = -(-len(blocks) // merkle.BLOCK_SIZE)
        expected = b"".join([self._digest(-1, first + index) for index in range(count)])
        self._compare(blocks, start, expected)
        return blocks[offset - start : offset - start + length]

    def _compare(self, blocks: bytes, offset: int, expected: bytes) -> None:
        padded = blocks + bytes(-len(blocks) % merkle.BLOCK_SIZE)
        bad = _first_difference(merkle.hash_blocks(memoryview(padded), self._salt), expected)
        if bad is not None:
            where = offset + bad * merkle.BLOCK_SIZE
            raise TreeMismatch(
                f"the block at byte {where} is not the one that the tree was made of", offset=where
            )

    def _parents(self, level: int, start: int, length: int) -> bytes:
        """`length` bytes of digests of the blocks from byte `start` of a level on (-1: the data), unchecked."""
        if level + 1 == len(self._levels):
            return self._root_hash
        position = start // merkle.BLOCK_SIZE * merkle.HASH_SIZE
        return self._source.read_at(self._levels[level + 1] + position, length)

    def _digest(self, level: int, index: int) -> bytes:
        """The digest, checked up to the root hash, of block `index` of a level (-1: the data)."""
        if level + 1 == len(self._levels):
            return self._root_hash
        parent, position = divmod(index * merkle.HASH_SIZE, merkle.BLOCK_SIZE)
        return self._block(level + 1, parent)[position : position + merkle.HASH_SIZE]

    def _block(self, level: int, index: int) -> bytes:
        known = self._checked.get((level, index))
        if known is not None:
            return known
        offset = self._levels[level] + index * merkle.BLOCK_SIZE
        block = self._source.read_at(offset, merkle.BLOCK_SIZE)
        if merkle.hash_blocks(memoryview(block), self._salt) != self._digest(level, index):
            raise self._wrong_block(level, index)
        if len(self._checked) == _CACHED_BLOCKS:
            del self._checked[next(iter(self._checked))]
        self._checked[level, index] = block
        return block

    def _wrong_block(self, level: int, index: int) -> TreeMismatch:
        parent = "root hash" if level + 1 == len(self._levels) else "block above"
        return TreeMismatch(
            f"block {index} of level {level} of the tree does not have the digest in the {parent}",
            offset=self._levels[level] + index * merkle.BLOCK_SIZE,
        )


class CheckedReader(io.RawIOBase):
    """Reads `data` through a tree: no byte of a wrong block is ever returned. Borrows both."""

    def __init__(self, data: Source, tree: Tree) -> None:
        super().__init__()
        self._data = data
        self._tree = tree
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._data.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, target: Any) -> int:
        view = memoryview(target).cast("B")[: merkle.READ_SIZE]
        length = max(0, min(len(view), self._data.size - self._position))
        view[:length] = self._tree.read_checked(self._data, self._position, length)
        self._position += length
        return length


def _first_difference(found: bytes, expected: bytes) -> int | None:
    """The number of the first digest that differs."""
    if found == expected:
        return None
    size = merkle.HASH_SIZE
    starts = range(0, len(found), size)
    return next(i // size for i in starts if found[i : i + size] != expected[i : i + size])
