"""GUID partition tables for a layout, in dialects that differ in a few fields and in no partition's place.

STRICT is what the UEFI specification (section 5) says and `sgdisk --verify` has nothing to say against. CROSVM is
what crosvm writes: MBR sector count one too large, first usable sector 40, the backup header pointing at sector 2
for its entries. CROSVM_2023 is what it wrote before 2025: the backup directly behind the last partition, then zeros
up to a multiple of 64 KiB.
"""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from avf.disk.files import align_up
from avf.disk.layout import HEADER_SIZE, MAX_PARTITIONS, SECTOR, Layout

LINUX_FILESYSTEM = bytes.fromhex("af3dc60f 8384 7247 8e79 3d69d8477de4")
"""Type 0FC63DAF-8483-4772-8E79-3D69D8477DE4 as stored, the first three fields little-endian."""

HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
"""Signature, revision, size, CRC, zeros, LBA of itself, of the other, first and last usable, GUID, then the entries'
LBA, count, size and CRC."""
ENTRY = struct.Struct("<16s16sQQQ72s")
"""Type, identity, first and last LBA, attributes, label."""
SIGNATURE = b"EFI PART"
REVISION = bytes.fromhex("00000100")
MBR_RECORD = struct.Struct("<B3sB3sII")
MBR_RECORDS = 446
MBR_END = b"\x55\xaa"
MBR_MAX = 0xFFFFFFFF
PROTECTIVE = 0xEE
SIZE_UNIT_2023 = 64 << 10

_ENTRIES_SIZE = MAX_PARTITIONS * ENTRY.size
_ENTRIES_LBA = 2


class Dialect(Enum):
    """Whose partition tables to write: those of the UEFI specification, or those of a version of crosvm."""

    STRICT = "strict"
    CROSVM = "crosvm"
    CROSVM_2023 = "crosvm-2023"


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """Both copies of a GUID partition table, as bytes of the disk."""

    header: bytes
    """The disk's first 20480 bytes."""
    footer: bytes
    """All bytes from the layout's `footer_offset` on: 20480, in CROSVM_2023 as many as it takes."""


def partition_table(
    layout: Layout,
    dialect: Dialect = Dialect.STRICT,
    new_guid: Callable[[], bytes] | None = None,
) -> PartitionTable:
    """Both copies of the table.

    `new_guid` gives the disk's identity, then each partition's, as the 16 bytes stored; without it they are random.
    """
    new_guid = new_guid or random_guid
    frame = _frame(layout, dialect)
    disk_guid = new_guid()
    entries = _entries(layout, new_guid)
    primary = _gpt_header(frame, disk_guid, entries, 1, frame.backup, _ENTRIES_LBA)
    backup = _gpt_header(frame, disk_guid, entries, frame.backup, 1, frame.named_entries)
    before = (frame.backup_entries * SECTOR - layout.footer_offset) * b"\0"
    behind = (frame.disk - 1 - frame.backup) * SECTOR * b"\0"
    return PartitionTable(
        header=(_protective_mbr(frame) + primary + entries).ljust(HEADER_SIZE, b"\0"),
        footer=before + entries + backup + behind,
    )


def random_guid() -> bytes:
    """A GUID of version 4 (RFC 9562) as GPT stores it."""
    guid = bytearray(os.urandom(16))
    guid[7] = guid[7] & 0x0F | 0x40
    guid[8] = guid[8] & 0x3F | 0x80
    return bytes(guid)


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a dialect decides, in sectors."""

    disk: int
    mbr_count: int
    first_usable: int
    backup_entries: int
    """Where the backup's entries are."""
    named_entries: int
    """Where its header says they are."""
    backup: int


def _frame(layout: Layout, dialect: Dialect) -> _Frame:
    disk = layout.size // SECTOR
    backup_entries = disk - 1 - _ENTRIES_SIZE // SECTOR
    if dialect is Dialect.CROSVM_2023:
        end = layout.footer_offset + _ENTRIES_SIZE + SECTOR
        disk = align_up(end, SIZE_UNIT_2023) // SECTOR
        backup_entries = layout.footer_offset // SECTOR
    backup = backup_entries + _ENTRIES_SIZE // SECTOR
    if dialect is Dialect.STRICT:
        first_usable = _ENTRIES_LBA + _ENTRIES_SIZE // SECTOR
        return _Frame(disk, disk - 1, first_usable, backup_entries, backup_entries, backup)
    return _Frame(disk, disk, HEADER_SIZE // SECTOR, backup_entries, _ENTRIES_LBA, backup)


def _entries(layout: Layout, new_guid: Callable[[], bytes]) -> bytes:
    return b"".join(
        ENTRY.pack(
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
    frame: _Frame, disk_guid: bytes, entries: bytes, here: int, other: int, entries_lba: int
) -> bytes:
    def packed(crc: int) -> bytes:
        return HEADER.pack(
            SIGNATURE, REVISION, HEADER.size, crc, 0, here, other, frame.first_usable,
            frame.backup_entries - 1, disk_guid, entries_lba, MAX_PARTITIONS, ENTRY.size,
            zlib.crc32(entries),
        )  # fmt: skip

    return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")


def _protective_mbr(frame: _Frame) -> bytes:
    record = MBR_RECORD.pack(0, b"", PROTECTIVE, b"", 1, min(frame.mbr_count, MBR_MAX))
    return record.rjust(MBR_RECORDS + MBR_RECORD.size, b"\0").ljust(SECTOR - 2, b"\0") + MBR_END
