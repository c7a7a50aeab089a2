"""GUID partition tables for a layout, in two dialects that differ in four fields and in no partition's place.

STRICT is what the UEFI specification (section 5) says and `sgdisk --verify` has nothing to say against. CROSVM is
what crosvm writes: MBR sector count one too large, first usable sector 40, the backup header pointing at sector 2
for its entries.
"""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from avf.disk.layout import FOOTER_SIZE, HEADER_SIZE, MAX_PARTITIONS, SECTOR, Layout

LINUX_FILESYSTEM = bytes.fromhex("af3dc60f 8384 7247 8e79 3d69d8477de4")
"""Type 0FC63DAF-8483-4772-8E79-3D69D8477DE4 as stored, the first three fields little-endian."""

_ENTRY_SIZE = 128
_ENTRIES_SIZE = MAX_PARTITIONS * _ENTRY_SIZE
_ENTRIES_LBA = 2
_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_MBR_PARTITION = struct.Struct("<B3sB3sII")
_REVISION = bytes.fromhex("00000100")


class Dialect(Enum):
    STRICT = "strict"
    CROSVM = "crosvm"


@dataclass(frozen=True, slots=True)
class PartitionTable:
    header: bytes
    """The disk's first 20480 bytes."""
    footer: bytes
    """The disk's last 20480 bytes."""


def partition_table(
    layout: Layout,
    dialect: Dialect = Dialect.STRICT,
    new_guid: Callable[[], bytes] | None = None,
) -> PartitionTable:
    """Both copies of the table.

    `new_guid` gives the disk's identity, then each partition's, as the 16 bytes stored; without it they are random.
    """
    new_guid = new_guid or random_guid
    disk_guid = new_guid()
    entries = _entries(layout, new_guid)
    return PartitionTable(
        header=_header_area(layout, dialect, disk_guid, entries),
        footer=_footer_area(layout, dialect, disk_guid, entries),
    )


def random_guid() -> bytes:
    """A GUID of version 4 (RFC 9562) as GPT stores it."""
    guid = bytearray(os.urandom(16))
    guid[7] = guid[7] & 0x0F | 0x40
    guid[8] = guid[8] & 0x3F | 0x80
    return bytes(guid)


def _header_area(layout: Layout, dialect: Dialect, disk_guid: bytes, entries: bytes) -> bytes:
    last = layout.size // SECTOR - 1
    header = _gpt_header(
        layout, dialect, disk_guid, entries, here=1, other=last, entries_lba=_ENTRIES_LBA
    )
    return (_protective_mbr(layout, dialect) + header + entries).ljust(HEADER_SIZE, b"\0")


def _footer_area(layout: Layout, dialect: Dialect, disk_guid: bytes, entries: bytes) -> bytes:
    last = layout.size // SECTOR - 1
    entries_lba = _ENTRIES_LBA if dialect is Dialect.CROSVM else _backup_entries_lba(layout)
    header = _gpt_header(
        layout, dialect, disk_guid, entries, here=last, other=1, entries_lba=entries_lba
    )
    return (entries + header).rjust(FOOTER_SIZE, b"\0")


def _backup_entries_lba(layout: Layout) -> int:
    return (layout.size - SECTOR - _ENTRIES_SIZE) // SECTOR


def _entries(layout: Layout, new_guid: Callable[[], bytes]) -> bytes:
    return b"".join(
        _ENTRY.pack(
            LINUX_FILESYSTEM,
            new_guid(),
            placement.offset // SECTOR,
            placement.end // SECTOR - 1,
            0,
            placement.label,
        )
        for placement in layout.placements
    ).ljust(_ENTRIES_SIZE, b"\0")


def _gpt_header(
    layout: Layout,
    dialect: Dialect,
    disk_guid: bytes,
    entries: bytes,
    *,
    here: int,
    other: int,
    entries_lba: int,
) -> bytes:
    first_usable = (
        HEADER_SIZE // SECTOR
        if dialect is Dialect.CROSVM
        else _ENTRIES_LBA + _ENTRIES_SIZE // SECTOR
    )

    def packed(crc: int) -> bytes:
        return _HEADER.pack(
            b"EFI PART", _REVISION, _HEADER.size, crc, 0, here, other, first_usable,
            _backup_entries_lba(layout) - 1, disk_guid, entries_lba, MAX_PARTITIONS, _ENTRY_SIZE,
            zlib.crc32(entries),
        )  # fmt: skip

    return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")


def _protective_mbr(layout: Layout, dialect: Dialect) -> bytes:
    sectors = layout.size // SECTOR - (dialect is Dialect.STRICT)
    partition = _MBR_PARTITION.pack(0, b"", 0xEE, b"", 1, min(sectors, 0xFFFFFFFF))
    return partition.rjust(446 + _MBR_PARTITION.size, b"\0").ljust(SECTOR - 2, b"\0") + b"\x55\xaa"
