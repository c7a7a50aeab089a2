"""QCOW2 version 3: images as crosvm writes them, and a reader that lets nothing through which reaches outside the file.

Format: QEMU's docs/interop/qcow2.txt. All integers are big-endian.
"""

import os
import struct
from dataclasses import dataclass

from avf.disk.errors import DiskError, ImageError, UnsupportedImage
from avf.disk.files import align_up, describe, read_at, stored_size, write_at
from avf.disk.record import QCOW2, record_format

MAGIC = b"QFI\xfb"
MAX_SIZE = 16 << 40
CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS

_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_EXTENSION = struct.Struct(">II")
_MAX_L1_BYTES = 32 << 20
_REFCOUNT_ORDER = 4
_MIN_CLUSTER_BITS = 9
_MAX_CLUSTER_BITS = 21
_MAX_EXTENSIONS = 64
_EXTENSIONS_REFUSED = {
    0xE2792ACA: "a backing file format",
    0x44415441: "an external data file",
    0x0537BE77: "an encryption header",
}
_INCOMPATIBLE = (
    "dirty reference counts (repair with qemu-img check -r all)",
    "the corrupt mark",
    "an external data file",
    "another compression type",
    "extended L2 entries",
)


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    """What of a checked header matters to others."""

    size: int
    """Virtual size in bytes."""
    cluster_bits: int
    l1_offset: int
    tables: tuple[range, ...]
    """Bytes of the file that no cluster may lie in: its first cluster, L1 table and reference count table."""


def create_qcow2(fd: int, size: int) -> None:
    """Makes `fd` an empty QCOW2 image of `size` bytes, and records that; earlier content is gone.

    Raises DiskError for a bad size.

    The layout is crosvm's: header, L1 table, reference count table and the first reference count block, each from a
    fresh 64 KiB cluster on; nothing else is allocated. Up to 4 TiB the file takes 256 KiB, nearly all of it a hole.
    """
    if not 0 <= size <= MAX_SIZE:
        raise DiskError(f"a QCOW2 image of {size} bytes is not possible (0 to {MAX_SIZE})")
    l1_entries = max(1, _l1_entries(size, CLUSTER_BITS))
    l1_clusters = align_up(l1_entries * 8, CLUSTER) // CLUSTER
    table_offset = CLUSTER * (1 + l1_clusters)
    table_clusters = _refcount_table_clusters(size, l1_clusters)
    block_offset = table_offset + table_clusters * CLUSTER
    used_clusters = block_offset // CLUSTER + 1
    header = _HEADER.pack(
        MAGIC, 3, 0, 0, CLUSTER_BITS, size, 0, l1_entries, CLUSTER, table_offset, table_clusters, 0, 0,
        0, 0, 0, _REFCOUNT_ORDER, _HEADER.size,
    )  # fmt: skip
    os.ftruncate(fd, 0)
    record_format(fd, QCOW2)
    os.ftruncate(fd, used_clusters * CLUSTER)
    write_at(fd, 0, header)
    write_at(fd, table_offset, struct.pack(">Q", block_offset))
    write_at(fd, block_offset, struct.pack(">H", 1) * used_clusters)


def read_header(fd: int) -> Qcow2Header:
    """Reads and checks the header of the QCOW2 image in `fd`.

    Raises ImageError for a damaged header; UnsupportedImage for version 2, backing files, external data files,
    encryption, snapshots, reference counts other than 16 bit and every incompatible feature.
    """
    name = describe(fd)
    data = read_at(fd, 0, _HEADER.size)
    if len(data) < _HEADER.size:
        raise ImageError(f"{name}: the QCOW2 header is cut off")
    (
        magic, version, backing_offset, backing_size, cluster_bits, size, crypt, l1_entries, l1_offset,
        table_offset, table_clusters, snapshots, _snapshots_offset,
        incompatible, _compatible, _autoclear, refcount_order, header_size,
    ) = _HEADER.unpack(data)  # fmt: skip
    if magic != MAGIC:
        raise ImageError(f"{name}: not a QCOW2 image")
    _refuse(name, version != 3, f"QCOW2 version {version}")
    _refuse(name, bool(backing_offset or backing_size), "a backing file")
    _refuse(name, crypt != 0, "encryption")
    _refuse(name, snapshots != 0, "internal snapshots")
    _refuse(name, refcount_order != _REFCOUNT_ORDER, f"reference count order {refcount_order}")
    for bit in range(64):
        known = (
            _INCOMPATIBLE[bit] if bit < len(_INCOMPATIBLE) else f"incompatible feature bit {bit}"
        )
        _refuse(name, bool(incompatible >> bit & 1), known)
    _check(
        name, _MIN_CLUSTER_BITS <= cluster_bits <= _MAX_CLUSTER_BITS, f"cluster bits {cluster_bits}"
    )
    cluster = 1 << cluster_bits
    _check(
        name,
        _HEADER.size <= header_size <= cluster and header_size % 8 == 0,
        f"header size {header_size}",
    )
    _check(name, size <= MAX_SIZE, f"virtual size {size}")
    needed = _l1_entries(size, cluster_bits)
    _check(name, needed <= l1_entries <= _MAX_L1_BYTES // 8, f"L1 table of {l1_entries} entries")
    _check_table(fd, name, "L1 table", l1_offset, l1_entries * 8, cluster)
    _check(name, table_clusters > 0, "no reference count table")
    _check_table(fd, name, "reference count table", table_offset, table_clusters * cluster, cluster)
    _check_extensions(name, read_at(fd, header_size, cluster - header_size))
    l1 = range(l1_offset, l1_offset + align_up(l1_entries * 8, cluster))
    table = range(table_offset, table_offset + table_clusters * cluster)
    _check(name, not overlap(l1, table), "the L1 table and the reference count table overlap")
    return Qcow2Header(size, cluster_bits, l1_offset, (range(cluster), l1, table))


def overlap(one: range, two: range) -> bool:
    return max(one.start, two.start) < min(one.stop, two.stop)


def _check_extensions(name: str, area: bytes) -> None:
    position = 0
    for _ in range(_MAX_EXTENSIONS):
        if len(area) - position < _EXTENSION.size:
            return
        kind, size = _EXTENSION.unpack_from(area, position)
        if kind == 0:
            return
        _refuse(name, kind in _EXTENSIONS_REFUSED, _EXTENSIONS_REFUSED.get(kind, ""))
        position += _EXTENSION.size
        _check(name, size <= len(area) - position, f"header extension of {size} bytes")
        position = min(position + align_up(size, 8), len(area))
    raise ImageError(f"{name}: damaged QCOW2 image: more than {_MAX_EXTENSIONS} header extensions")


def _check_table(fd: int, name: str, what: str, offset: int, size: int, cluster: int) -> None:
    fits = (
        offset % cluster == 0
        and offset >= cluster
        and offset + size <= align_up(stored_size(fd), cluster)
    )
    _check(name, fits or size == 0, f"{what} at {offset}, {size} bytes")


def _refuse(name: str, condition: bool, what: str) -> None:
    if condition:
        raise UnsupportedImage(f"{name}: QCOW2 images with {what} are refused")


def _check(name: str, condition: bool, what: str) -> None:
    if not condition:
        raise ImageError(f"{name}: damaged QCOW2 image: {what}")


def _l1_entries(size: int, cluster_bits: int) -> int:
    """One L1 entry covers a cluster full of 8-byte L2 entries."""
    return -(-size // (1 << (2 * cluster_bits - 3)))


def _refcount_table_clusters(size: int, l1_clusters: int) -> int:
    """Clusters of a table whose blocks can count every cluster the image may ever have."""
    data = -(-size // CLUSTER)
    clusters = 1 + l1_clusters + data + -(-data // (CLUSTER // 8))
    blocks = -(-clusters // (CLUSTER // 2)) + 1
    return align_up(blocks * 8, CLUSTER) // CLUSTER
