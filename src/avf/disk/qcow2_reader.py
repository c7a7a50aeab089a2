"""Reads the guest's data out of a QCOW2 image of the kind `read_header` lets through.

Tables are read when they are needed; of L2 tables at most 4 MiB are kept. Format: QEMU's docs/interop/qcow2.txt.
"""

import struct
from collections import OrderedDict

from avf.disk.errors import ImageError, UnsupportedImage
from avf.disk.files import describe, read_at, stored_size
from avf.disk.qcow2 import read_header
from avf.disk.reader import ImageReader

_ENTRY = struct.Struct(">Q")
_OFFSET = 0x00FF_FFFF_FFFF_FE00
_COPIED = 1 << 63
_COMPRESSED = 1 << 62
_ZERO = 1
_CACHED_BYTES = 4 << 20


class Qcow2Reader(ImageReader):
    """The disk in the QCOW2 image in a borrowed descriptor."""

    def __init__(self, fd: int) -> None:
        """Raises ImageError for what `read_header` refuses."""
        header = read_header(fd)
        super().__init__(describe(fd), header.size)
        self._fd = fd
        self._l1_offset = header.l1_offset
        self._forbidden = header.tables
        self._bits = header.cluster_bits
        self._cluster = 1 << header.cluster_bits
        self._tables: OrderedDict[int, bytes] = OrderedDict()
        self._max_tables = max(1, _CACHED_BYTES >> header.cluster_bits)

    def _read(self, offset: int, size: int) -> bytes:
        parts = []
        while size > 0:
            inside = offset & (self._cluster - 1)
            length = min(size, self._cluster - inside)
            where = self._locate(offset >> self._bits)
            parts.append(bytes(length) if where is None else self._stored(where + inside, length))
            offset += length
            size -= length
        return b"".join(parts)

    def _stored(self, offset: int, size: int) -> bytes:
        """The file may end inside its last cluster; what is missing are zeros."""
        return read_at(self._fd, offset, size).ljust(size, b"\0")

    def _locate(self, cluster: int) -> int | None:
        """Where a cluster of the disk lies in the file; None: it reads as zeros."""
        index, entry_index = divmod(cluster, self._cluster // _ENTRY.size)
        table = self._table(index)
        if table is None:
            return None
        (entry,) = _ENTRY.unpack_from(table, entry_index * _ENTRY.size)
        if entry & _COMPRESSED:
            raise UnsupportedImage(
                f"{self.name}: QCOW2 images with compressed clusters are refused"
            )
        what = f"L2 entry of cluster {cluster}"
        where = self._checked(entry & ~_ZERO, what)
        return None if entry & _ZERO else where

    def _table(self, index: int) -> bytes | None:
        known = self._tables.get(index)
        if known is not None:
            self._tables.move_to_end(index)
            return known
        at = self._l1_offset + index * _ENTRY.size
        entry = read_at(self._fd, at, _ENTRY.size)
        if len(entry) != _ENTRY.size:
            raise ImageError(f"{self.name}: damaged QCOW2 image: the L1 table is cut off")
        where = self._checked(_ENTRY.unpack(entry)[0], f"L1 entry {index}")
        if where is None:
            return None
        table = self._stored(where, self._cluster)
        self._tables[index] = table
        if len(self._tables) > self._max_tables:
            self._tables.popitem(last=False)
        return table

    def _checked(self, entry: int, what: str) -> int | None:
        """The offset in an L1 or L2 entry, None if there is none."""
        offset = entry & _OFFSET
        reserved = entry & ~(_OFFSET | _COPIED)
        if reserved or offset % self._cluster or offset >= stored_size(self._fd):
            raise ImageError(f"{self.name}: damaged QCOW2 image: {what} is {entry:#x}")
        if offset == 0:
            return None
        if any(offset in table for table in self._forbidden):
            raise ImageError(f"{self.name}: damaged QCOW2 image: {what} leads into another table")
        return offset
