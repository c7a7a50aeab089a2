"""Reads partition tables: ours in every dialect and those of other tools (UEFI specification, section 5).

Both copies are checked in full (every field, both checksums) and must agree; or one of them alone is asked for.
Sectors of 512 bytes only.
"""

import zlib
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from avf.disk.errors import TableError
from avf.disk.gpt import (
    ENTRY,
    HEADER,
    MBR_END,
    MBR_MAX,
    MBR_RECORD,
    MBR_RECORDS,
    PROTECTIVE,
    REVISION,
    SIGNATURE,
    SIZE_UNIT_2023,
    Dialect,
)
from avf.disk.layout import SECTOR
from avf.disk.reader import ImageReader, PartReader

MAX_ENTRIES_SIZE = 1 << 20
_FIRST_LBA = 1
_MAX_ENTRY = 4096
_NO_TYPE = bytes(16)


class TableCopy(Enum):
    """The two copies of a table: at the beginning and at the end of a disk."""

    PRIMARY = "primary"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True)
class GptPartition:
    """One partition in use; offset and size in bytes."""

    number: int
    """From 1 on, as sgdisk counts."""
    label: str
    offset: int
    size: int
    type_guid: UUID
    guid: UUID
    attributes: int


@dataclass(frozen=True, slots=True)
class GptTable:
    """A GUID partition table that was read and checked. Positions count in sectors of 512 bytes."""

    disk_guid: UUID
    partitions: tuple[GptPartition, ...]
    """In the order of their entries."""
    first_usable: int
    """The first sector and the last one that partitions may use."""
    last_usable: int
    dialect: Dialect | None
    """Whose table it looks like; None if nobody's, or if only one copy was read."""

    def find(self, label: str) -> GptPartition:
        """The partition of that label. Raises TableError if there is none or more than one."""
        found = [partition for partition in self.partitions if partition.label == label]
        if len(found) != 1:
            raise TableError(f"{len(found) or 'no'} partitions have the label {label!r}")
        return found[0]


def read_partition_table(image: ImageReader, copy: TableCopy | None = None) -> GptTable:
    """The checked table of a disk: both copies, which must agree, or `copy` alone.

    Raises TableError, which names the image, the copy and the field; ImageError if the image cannot be read.
    """
    reader = _Reader(image)
    if copy is TableCopy.BACKUP:
        return reader.table(reader.header(copy, reader.sectors - 1))
    mbr_count = reader.protective_mbr()
    primary = reader.header(TableCopy.PRIMARY, _FIRST_LBA)
    if copy is TableCopy.PRIMARY:
        return reader.table(primary)
    backup = reader.header(TableCopy.BACKUP, primary.fields.other)
    reader.compare(primary, backup)
    return reader.table(primary, _dialect(primary, backup, reader.sectors, mbr_count))


def open_partition(image: ImageReader, partition: GptPartition) -> ImageReader:
    """A reader of one partition's bytes; `image` stays the caller's and must stay open."""
    return PartReader(image, partition.offset, partition.size, f"partition {partition.label!r}")


class _Fields(NamedTuple):
    """A header as `HEADER` unpacks it; places are sector numbers."""

    signature: bytes
    revision: bytes
    size: int
    crc: int
    reserved: int
    here: int
    other: int
    first_usable: int
    last_usable: int
    disk_guid: bytes
    entries_lba: int
    entry_count: int
    entry_size: int
    entries_crc: int


@dataclass(frozen=True, slots=True)
class _Header:
    copy: TableCopy
    fields: _Fields
    entries: bytes


class _Reader:
    def __init__(self, image: ImageReader) -> None:
        self._image = image
        self.sectors = image.size // SECTOR

    def protective_mbr(self) -> int:
        """Checks the first sector; how many sectors its record says there are."""
        sector = self._image.pread(SECTOR, 0)
        self._check(sector[-2:] == MBR_END and len(sector) == SECTOR, "MBR: signature")
        records = [
            MBR_RECORD.unpack_from(sector, MBR_RECORDS + index * MBR_RECORD.size)
            for index in range(4)
        ]
        protective = [record for record in records if record[2] == PROTECTIVE]
        self._check(len(protective) == 1, f"MBR: {len(protective) or 'no'} protective partitions")
        self._check(
            all(record == (0, bytes(3), 0, bytes(3), 0, 0) for record in records if record[2] == 0),
            "MBR: an unused partition record is not empty",
        )
        others = [record[2] for record in records if record[2] not in (0, PROTECTIVE)]
        self._check(not others, f"MBR: partition of type {others[0] if others else 0:#04x}")
        status, _start, _type, _end, first, count = protective[0]
        self._check(status == 0, f"MBR: boot indicator {status:#04x}")
        self._check(first == _FIRST_LBA, f"MBR: first sector {first}")
        capped = min(self.sectors - 1, MBR_MAX)
        self._check(
            count in (capped, min(self.sectors, MBR_MAX), MBR_MAX), f"MBR: sector count {count}"
        )
        return int(count)

    def header(self, copy: TableCopy, lba: int) -> _Header:
        """A checked header with its entries."""
        name = f"{copy.value} header"
        self._check(_FIRST_LBA <= lba < self.sectors, f"no {name} at sector {lba}")
        sector = self._image.pread(SECTOR, lba * SECTOR)
        fields = _Fields._make(HEADER.unpack_from(sector))
        self._check(fields.signature == SIGNATURE, f"no {name} at sector {lba}")
        self._check(fields.revision == REVISION, f"{name}: revision {fields.revision.hex()}")
        self._check(HEADER.size <= fields.size <= SECTOR, f"{name}: header size {fields.size}")
        blank = sector[:16] + bytes(4) + sector[20 : fields.size]
        self._check(fields.crc == zlib.crc32(blank), f"{name}: header checksum {fields.crc:#010x}")
        self._check_places(name, fields, lba)
        return _Header(copy, fields, self._entries(name, fields))

    def _check_places(self, name: str, fields: _Fields, lba: int) -> None:
        here, other = fields.here, fields.other
        first, last = fields.first_usable, fields.last_usable
        self._check(fields.reserved == 0, f"{name}: reserved field {fields.reserved}")
        self._check(here == lba, f"{name}: says it is at sector {here}, is at {lba}")
        self._check(
            _FIRST_LBA <= other < self.sectors and other != here, f"{name}: other header at {other}"
        )
        self._check(
            _FIRST_LBA < first <= last + 1 <= self.sectors,
            f"{name}: usable sectors {first} to {last}",
        )

    def _entries(self, name: str, fields: _Fields) -> bytes:
        entry_size, start = fields.entry_size, fields.entries_lba
        self._check(
            ENTRY.size <= entry_size <= _MAX_ENTRY and entry_size & (entry_size - 1) == 0,
            f"{name}: entry size {entry_size}",
        )
        size = fields.entry_count * entry_size
        self._check(
            0 < size <= MAX_ENTRIES_SIZE, f"{name}: {fields.entry_count} entries of {entry_size}"
        )
        # crosvm's backup header names the primary's entries
        end = start + -(-size // SECTOR)
        self._check(
            _FIRST_LBA < start < end <= self.sectors
            and (end <= fields.first_usable or fields.last_usable < start)
            and not start <= fields.here < end,
            f"{name}: entries at sector {start}",
        )
        entries = self._image.pread(size, start * SECTOR)
        self._check(
            fields.entries_crc == zlib.crc32(entries),
            f"{name}: entries' checksum {fields.entries_crc:#010x}",
        )
        return entries

    def compare(self, primary: _Header, backup: _Header) -> None:
        """Checks that two copies say the same."""
        one, two = primary.fields, backup.fields
        for what, mine, other in (
            ("other header's sector", one.here, two.other),
            ("first usable sector", one.first_usable, two.first_usable),
            ("last usable sector", one.last_usable, two.last_usable),
            ("disk GUID", one.disk_guid.hex(), two.disk_guid.hex()),
            ("entry size", one.entry_size, two.entry_size),
        ):
            self._check(mine == other, f"backup header: {what} {other} is not the primary's {mine}")
        entries = backup.entries
        if two.entries_lba == one.entries_lba:
            # crosvm's, which names the primary's entries, has its own right in front
            size = len(entries)
            start = max(0, two.here - -(-size // SECTOR)) * SECTOR
            entries = self._image.pread(size, start)
        self._check(entries == primary.entries, "backup header: its entries are not the primary's")

    def table(self, header: _Header, dialect: Dialect | None = None) -> GptTable:
        """The partitions of a checked header, checked themselves."""
        fields = header.fields
        partitions = []
        for start in range(0, len(header.entries), fields.entry_size):
            stored = header.entries[start : start + ENTRY.size]
            if not stored.startswith(_NO_TYPE):
                partitions.append(self._partition(header, start // fields.entry_size + 1, stored))
        self._check_together(header.copy.value, partitions)
        return GptTable(
            UUID(bytes_le=fields.disk_guid),
            tuple(partitions),
            fields.first_usable,
            fields.last_usable,
            dialect,
        )

    def _partition(self, header: _Header, number: int, stored: bytes) -> GptPartition:
        kind, guid, first, last, attributes, label = ENTRY.unpack(stored)
        where = f"{header.copy.value} entry {number}"
        self._check(
            header.fields.first_usable <= first <= last <= header.fields.last_usable,
            f"{where}: sectors {first} to {last}",
        )
        return GptPartition(
            number,
            self._label(label, where),
            first * SECTOR,
            (last + 1 - first) * SECTOR,
            UUID(bytes_le=kind),
            UUID(bytes_le=guid),
            attributes,
        )

    def _label(self, stored: bytes, where: str) -> str:
        try:
            return stored.decode("utf-16-le").partition("\0")[0]
        except UnicodeDecodeError as error:
            raise TableError(f"{self._image.name}: {where}: label is not UTF-16") from error

    def _check_together(self, name: str, partitions: list[GptPartition]) -> None:
        ordered = sorted(partitions, key=lambda partition: partition.offset)
        for one, two in pairwise(ordered):
            self._check(
                one.offset + one.size <= two.offset,
                f"{name} entry {two.number}: overlaps entry {one.number}",
            )
        numbers: dict[UUID, int] = {}
        for partition in partitions:
            first = numbers.setdefault(partition.guid, partition.number)
            self._check(
                first == partition.number,
                f"{name} entry {partition.number}: has the GUID of entry {first}",
            )

    def _check(self, condition: bool, what: str) -> None:
        if not condition:
            raise TableError(f"{self._image.name}: partition table: {what}")


def _dialect(primary: _Header, backup: _Header, sectors: int, mbr_count: int) -> Dialect | None:
    one, two = primary.fields, backup.fields
    behind = sectors - 1 - two.here
    if two.entries_lba != one.entries_lba:
        strict = behind == 0 and mbr_count == min(sectors - 1, MBR_MAX) and one.entries_lba == 2
        return Dialect.STRICT if strict else None
    entry_sectors = -(-len(primary.entries) // SECTOR)
    if mbr_count != min(sectors, MBR_MAX) or one.last_usable != two.here - entry_sectors - 1:
        return None
    if behind == 0:
        return Dialect.CROSVM
    padded = behind * SECTOR < SIZE_UNIT_2023 and sectors * SECTOR % SIZE_UNIT_2023 == 0
    return Dialect.CROSVM_2023 if padded else None
