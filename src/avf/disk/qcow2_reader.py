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
_MAX_CHECKED = 1 << 28


class Qcow2Reader(ImageReader):
    """The disk in the QCOW2 image in a borrowed descriptor."""

    def __init__(self, fd: int) -> None:
        """Raises ImageError for what `read_header` refuses."""
        header = read_header(fd)
        super().__init__(describe(fd), header.size)
        self._fd = fd
        self._l1_offset = header.l1_offset
        self._tables_of_header = header.tables
        self._bits = header.cluster_bits
        self._cluster = 1 << header.cluster_bits
        self._tables: OrderedDict[int, bytes] = OrderedDict()
        self._max_tables = max(1, _CACHED_BYTES >> header.cluster_bits)

    def check(self) -> int:
        """Checks every table; how many clusters of the file hold data of the disk.

        Raises ImageError for the first bad entry and for a cluster that is used twice; UnsupportedImage for compressed
        clusters and for files of more than 2**28 clusters (the check takes a bit for each).
        """
        used = _Used(self.name, stored_size(self._fd), self._bits)
        for table in self._tables_of_header:
            for offset in table[:: self._cluster]:
                used.add(offset, "the header and its tables")
        tables = used.count
        for index in range(-(-self.size // (self._cluster * (self._cluster // _ENTRY.size)))):
            where = self._table_offset(index)
            if where is not None:
                used.add(where, f"L1 entry {index}")
                tables += 1
                self._check_table(index, self._stored(where, self._cluster), used)
        return used.count - tables

    def _check_table(self, index: int, table: bytes, used: "_Used") -> None:
        if not any(table):
            return
        for cluster, (entry,) in enumerate(
            _ENTRY.iter_unpack(table), index * (self._cluster // _ENTRY.size)
        ):
            where = self._data_offset(entry, cluster)
            if where is not None:
                used.add(where, f"L2 entry of cluster {cluster}")

    def next_data(self, offset: int) -> int:
        span = self._cluster * (self._cluster // _ENTRY.size)
        while offset < self.size and self._table(offset // span) is None:
            offset = (offset // span + 1) * span
        return min(offset, self.size)

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
        where = self._data_offset(entry, cluster)
        return None if entry & _ZERO else where

    def _data_offset(self, entry: int, cluster: int) -> int | None:
        """Where an L2 entry leads, also if its cluster is marked to read as zeros."""
        if entry & _COMPRESSED:
            raise UnsupportedImage(
                f"{self.name}: QCOW2 images with compressed clusters are refused"
            )
        return self._checked(entry & ~_ZERO, f"L2 entry of cluster {cluster}")

    def _table(self, index: int) -> bytes | None:
        known = self._tables.get(index)
        if known is not None:
            self._tables.move_to_end(index)
            return known
        where = self._table_offset(index)
        if where is None:
            return None
        table = self._stored(where, self._cluster)
        self._tables[index] = table
        if len(self._tables) > self._max_tables:
            self._tables.popitem(last=False)
        return table

    def _table_offset(self, index: int) -> int | None:
        entry = read_at(self._fd, self._l1_offset + index * _ENTRY.size, _ENTRY.size)
        if len(entry) != _ENTRY.size:
            raise ImageError(f"{self.name}: damaged QCOW2 image: the L1 table is cut off")
        return self._checked(_ENTRY.unpack(entry)[0], f"L1 entry {index}")

    def _checked(self, entry: int, what: str) -> int | None:
        """The offset in an L1 or L2 entry, None if there is none."""
        offset = entry & _OFFSET
        reserved = entry & ~(_OFFSET | _COPIED)
        if reserved or offset % self._cluster or offset >= stored_size(self._fd):
            raise ImageError(f"{self.name}: damaged QCOW2 image: {what} is {entry:#x}")
        if offset == 0:
            return None
        if any(offset in table for table in self._tables_of_header):
            raise ImageError(f"{self.name}: damaged QCOW2 image: {what} leads into another table")
        return offset


class _Used:
    """One bit for each cluster of a file."""

    def __init__(self, name: str, size: int, cluster_bits: int) -> None:
        clusters = -(-size >> cluster_bits) + 1
        if clusters > _MAX_CHECKED:
            raise UnsupportedImage(f"{name}: QCOW2 images of {clusters} clusters are not checked")
        self._name = name
        self._bits = cluster_bits
        self._map = bytearray(-(-clusters // 8))
        self.count = 0

    def add(self, offset: int, what: str) -> None:
        index, bit = divmod(offset >> self._bits, 8)
        if self._map[index] >> bit & 1:
            raise ImageError(
                f"{self._name}: damaged QCOW2 image: {what} leads to {offset}, which is in use"
            )
        self._map[index] |= 1 << bit
        self.count += 1


def check_qcow2(fd: int) -> int:
    """Checks every table of the QCOW2 image in `fd`, see `Qcow2Reader.check`."""
    with Qcow2Reader(fd) as image:
        return image.check()
