"""Files of less than a block, each behind its inode, so that the kernel reads both at once, with their neighbours.

The run of bytes is a part of an EROFS file system; it is made while it is read.
"""

from bisect import bisect_right

from avf.guest import PAYLOAD_ID
from avf.guest.erofs import BLOCK, INLINE_MAX, SLOT, allot, inline_file, plain_file
from avf.guest.unpacked import Unpacked
from avf.guest.ziptree import Inode, ZipTreeError

NEAR_MAX = INLINE_MAX


class NearFiles:
    """The run; `unpacked` knows the contents of files."""

    def __init__(self, unpacked: Unpacked) -> None:
        self._unpacked = unpacked
        self._files: list[Inode] = []
        self._starts: list[int] = []
        self._end = 0
        self.broken_block = 0
        """A block of the file system that cannot be read: the contents of broken files."""

    @property
    def blocks(self) -> int:
        return -(-self._end // BLOCK)

    @property
    def size(self) -> int:
        return self.blocks * BLOCK

    def add(self, inode: Inode) -> int:
        """Appends a file of 1 to NEAR_MAX bytes; the slot of its inode."""
        start = allot(self._end, SLOT + inode.size)
        self._files.append(inode)
        self._starts.append(start)
        self._end = start + SLOT + inode.size
        return start // SLOT

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes, whole blocks, fewer only at the end."""
        end = min(offset + length, self.size)
        data = bytearray(max(0, end - offset))
        index = bisect_right(self._starts, offset - 1)
        while index < len(self._files) and self._starts[index] < end:
            at = self._starts[index] - offset
            piece = self._inode(self._files[index])
            data[at : at + len(piece)] = piece
            index += 1
        return bytes(data)

    def _inode(self, inode: Inode) -> bytes:
        try:
            contents = self._unpacked.contents(inode)
        except (ZipTreeError, OSError):
            return plain_file(inode.mode, inode.size, PAYLOAD_ID, self.broken_block)
        return inline_file(inode.mode, inode.size, PAYLOAD_ID) + contents
