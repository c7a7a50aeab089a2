"""Files of a ZIP archive, each beginning on a block, as one run of bytes that is made while it is read.

Of compressed files no more than a few pieces are held. To go back in one does not mean to begin again: states of the
decompressor are kept on the way.
"""

import os
import struct
import zlib
from bisect import bisect_right
from collections import OrderedDict

from avf.apk import ApkError, Entry, EntryReader, open_entry
from avf.guest.ziptree import Inode, ZipTree, ZipTreeError

BLOCK = 4096
SMALL = 64 << 10
"""Files up to this size are read together with their neighbours."""

_PIECE = 256 << 10
"""What is decompressed at once. A file that is not longer has proved its CRC-32 before any of it is given out."""
_PIECES = 8
_STREAMS = 4
_MARKS = 32
"""States of the decompressor kept for one file, each of about 100 KiB."""
_SPAN = 256 << 10
"""What is read of the archive at once for small files."""
_LOCAL_HEADER = struct.Struct("<4s4xH16xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 1
_STORED, _DEFLATED = 0, 8


class Unpacked:
    """The run of bytes; `tree` reads the archive behind the borrowed descriptor `fd`."""

    def __init__(self, fd: int, tree: ZipTree) -> None:
        self._fd = fd
        self._tree = tree
        self._files: list[Inode] = []
        self._starts: list[int] = []
        self._streams: OrderedDict[int, _Stream] = OrderedDict()
        self._pieces: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._span_offset = 0
        self._span = b""
        self.blocks = 0
        self.small_blocks = 0
        """Up to here there are small files only."""

    @property
    def size(self) -> int:
        return self.blocks * BLOCK

    def add(self, inode: Inode) -> int:
        """Appends a file that is not empty; the block of this run where it begins."""
        start = self.blocks
        self._files.append(inode)
        self._starts.append(start * BLOCK)
        self.blocks += -(-inode.size // BLOCK)
        if inode.size <= SMALL and self.small_blocks == start:
            self.small_blocks = self.blocks
        return start

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes, fewer only at the end. Raises ZipTreeError (an entry is broken) or OSError (dm-verity's)."""
        end = min(offset + length, self.size)
        index = bisect_right(self._starts, offset) - 1
        pieces: list[bytes] = []
        while offset < end:
            inode, start = self._files[index], self._starts[index]
            stop = min(end - start, -(-inode.size // BLOCK) * BLOCK)
            piece = self._file(inode, offset - start, min(stop, inode.size))
            pieces += (piece, bytes(start + stop - offset - len(piece)))
            offset = start + stop
            index += 1
        return b"".join(pieces)

    def contents(self, inode: Inode) -> bytes:
        """A whole file, whether it has been added or not. Raises as `read` does."""
        return self._file(inode, 0, inode.size)

    def _file(self, inode: Inode, start: int, stop: int) -> bytes:
        """A part of a file; none if `stop` does not lie behind `start`."""
        entry = inode.entry
        assert entry is not None
        if start >= stop:
            return b""
        if entry.size <= SMALL and (data := self._quick(entry)) is not None:
            return data[start:stop]
        if inode.is_stored:
            data = self._tree.read(inode, start, stop - start)
            if len(data) < stop - start:
                raise ZipTreeError(f"ZIP entry {entry.name!r} is cut short")
            return data
        first, last = start // _PIECE, (stop - 1) // _PIECE
        whole = b"".join(self._piece(inode, index) for index in range(first, last + 1))
        return whole[start - first * _PIECE : stop - first * _PIECE]

    def _quick(self, entry: Entry) -> bytes | None:
        """The contents of a small file in good order; None if there is anything to be looked at closely."""
        if entry.flags & _ENCRYPTED or entry.compressed_size > _SPAN // 2:
            return None
        header = self._archive(entry.header_offset, _LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size:
            return None
        magic, method, name, extra = _LOCAL_HEADER.unpack(header)
        size = name + extra + entry.compressed_size
        rest = self._archive(entry.header_offset + _LOCAL_HEADER.size, size)
        good = magic == _LOCAL_MAGIC and method == entry.method and len(rest) == size
        if not good or rest[:name] != entry.raw_name:
            return None
        data = rest[name + extra :]
        if entry.method == _STORED:
            return data if entry.size == entry.compressed_size else None
        return _inflated(entry, data) if entry.method == _DEFLATED else None

    def _archive(self, offset: int, length: int) -> bytes:
        """Bytes of the archive, out of the last span that was read if they lie in it; none if they cannot be read."""
        start = offset - self._span_offset
        if start < 0 or start + length > len(self._span):
            try:
                self._span = os.pread(self._fd, max(_SPAN, length), offset)
            except OSError:
                return b""
            self._span_offset, start = offset, 0
        return self._span[start : start + length]

    def _piece(self, inode: Inode, index: int) -> bytes:
        piece = self._pieces.get((inode.number, index))
        if piece is None:
            piece = self._decompress(inode, index)
            self._pieces[inode.number, index] = piece
            if len(self._pieces) > _PIECES:
                self._pieces.popitem(last=False)
        return piece

    def _decompress(self, inode: Inode, index: int) -> bytes:
        assert inode.entry is not None
        stream = self._streams.pop(inode.number, None)  # a stream that fails is not used again
        try:
            stream = stream or _Stream(self._fd, inode.entry)
            piece = stream.piece(index)
        except ApkError as error:
            raise ZipTreeError(str(error)) from error
        if inode.size > _PIECE:
            self._streams[inode.number] = stream
            if len(self._streams) > _STREAMS:
                self._streams.popitem(last=False)
        return piece


def _inflated(entry: Entry, data: bytes) -> bytes | None:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        contents = inflate.decompress(data, entry.size + 1)
    except zlib.error:
        return None
    return contents if len(contents) == entry.size and zlib.crc32(contents) == entry.crc else None


class _Stream:
    """A compressed entry that can be read piece by piece, in any order."""

    def __init__(self, fd: int, entry: Entry) -> None:
        self._next = 0
        self._reader = open_entry(fd, entry)
        self._step = -(-entry.size // _PIECE // _MARKS) or 1
        self._marks: list[EntryReader] = [self._reader.copy()]

    def piece(self, index: int) -> bytes:
        """Raises ApkError if the entry is broken here or before, or OSError."""
        if index < self._next:
            mark = index // self._step
            self._reader = self._marks[mark].copy()
            self._next = mark * self._step
        while True:
            piece = self._read()
            if self._next > index:
                return piece

    def _read(self) -> bytes:
        data = bytearray()
        while len(data) < _PIECE and (more := self._reader.read(_PIECE - len(data))):
            data += more
        self._next += 1
        if self._next == len(self._marks) * self._step and len(data) == _PIECE:
            self._marks.append(self._reader.copy())
        return bytes(data)
