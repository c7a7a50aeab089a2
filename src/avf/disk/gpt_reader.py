"""Reads partition tables: ours in every dialect and those of other tools (UEFI specification, section 5).

Both copies are checked in full (every field, both checksums) and must agree; or one of them alone is asked for.
Sectors of 512 bytes only.
"""

import zlib
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
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
    backup = reader.header(TableCopy.BACKUP, primary.other)
    reader.compare(primary, backup)
    return reader.table(primary, _dialect(primary, backup, reader.sectors, mbr_count))


def open_partition(image: ImageReader, partition: GptPartition) -> ImageReader:
    """A reader of one partition's bytes; `image` stays the caller's and must stay open."""
    return PartReader(image, partition.offset, partition.size, f"partition {partition.label!r}")


@dataclass(frozen=True, slots=True)
class _Header:
    copy: TableCopy
    here: int
    other: int
    first_usable: int
    last_usable: int
    disk_guid: bytes
    entries_lba: int
    entry_size: int
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
        name = f"{copy.value} header"
        self._check(_FIRST_LBA <= lba < self.sectors, f"no {name} at sector {lba}")
        sector = self._image.pread(SECTOR, lba * SECTOR)
        (
            signature, revision, size, crc, reserved, here, other, first, last, guid,
            entries_lba, count, entry_size, entries_crc,
        ) = HEADER.unpack_from(sector)  # fmt: skip
        self._check(signature == SIGNATURE, f"no {name} at sector {lba}")
        self._check(revision == REVISION, f"{name}: revision {revision.hex()}")
        self._check(HEADER.size <= size <= SECTOR, f"{name}: header size {size}")
        blank = sector[:16] + bytes(4) + sector[20:size]
        self._check(crc == zlib.crc32(blank), f"{name}: header checksum {crc:#010x}")
        self._check(reserved == 0, f"{name}: reserved field {reserved}")
        self._check(here == lba, f"{name}: says it is at sector {here}, is at {lba}")
        self._check(
            _FIRST_LBA <= other < self.sectors and other != here, f"{name}: other header at {other}"
        )
        self._check(
            _FIRST_LBA < first <= last + 1 <= self.sectors,
            f"{name}: usable sectors {first} to {last}",
        )
        self._check(
            ENTRY.size <= entry_size <= _MAX_ENTRY and entry_size & (entry_size - 1) == 0,
            f"{name}: entry size {entry_size}",
        )
        size = count * entry_size
        self._check(0 < size <= MAX_ENTRIES_SIZE, f"{name}: {count} entries of {entry_size}")
        # crosvm's backup header names the primary's entries
        end = entries_lba + -(-size // SECTOR)
        self._check(
            _FIRST_LBA < entries_lba < end <= self.sectors
            and (end <= first or last < entries_lba)
            and not entries_lba <= here < end,
            f"{name}: entries at sector {entries_lba}",
        )
        entries = self._image.pread(size, entries_lba * SECTOR)
        self._check(
            entries_crc == zlib.crc32(entries), f"{name}: entries' checksum {entries_crc:#010x}"
        )
        return _Header(copy, here, other, first, last, guid, entries_lba, entry_size, entries)

    def compare(self, primary: _Header, backup: _Header) -> None:
        for what, one, two in (
            ("other header's sector", primary.here, backup.other),
            ("first usable sector", primary.first_usable, backup.first_usable),
            ("last usable sector", primary.last_usable, backup.last_usable),
            ("disk GUID", primary.disk_guid.hex(), backup.disk_guid.hex()),
            ("entry size", primary.entry_size, backup.entry_size),
        ):
            self._check(one == two, f"backup header: {what} {two} is not the primary's {one}")
        self._check(
            self._lies_there(primary, backup), "backup header: its entries are not the primary's"
        )

    def _lies_there(self, primary: _Header, backup: _Header) -> bool:
        """Whether the backup's entries are the primary's, also in front of a header that names the primary's."""
        size = len(primary.entries)
        start = max(0, backup.here - -(-size // SECTOR)) * SECTOR
        if backup.entries_lba == primary.entries_lba:
            return self._image.pread(size, start) == primary.entries == backup.entries
        return backup.entries == primary.entries

    def table(self, header: _Header, dialect: Dialect | None = None) -> GptTable:
        name = header.copy.value
        partitions = []
        for start in range(0, len(header.entries), header.entry_size):
            kind, guid, first, last, attributes, label = ENTRY.unpack_from(header.entries, start)
            if kind == _NO_TYPE:
                continue
            number = start // header.entry_size + 1
            self._check(
                header.first_usable <= first <= last <= header.last_usable,
                f"{name} entry {number}: sectors {first} to {last}",
            )
            partitions.append(
                GptPartition(
                    number,
                    self._label(label, f"{name} entry {number}"),
                    first * SECTOR,
                    (last + 1 - first) * SECTOR,
                    UUID(bytes_le=kind),
                    UUID(bytes_le=guid),
                    attributes,
                )
            )
        self._check_together(name, partitions)
        return GptTable(
            UUID(bytes_le=header.disk_guid),
            tuple(partitions),
            header.first_usable,
            header.last_usable,
            dialect,
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
    entry_sectors = -(-len(primary.entries) // SECTOR)
    behind = sectors - 1 - backup.here
    whole = min(sectors, MBR_MAX)
    if backup.entries_lba == primary.entries_lba:
        if mbr_count != whole or primary.last_usable != backup.here - entry_sectors - 1:
            return None
        if behind == 0:
            return Dialect.CROSVM
        if behind * SECTOR < SIZE_UNIT_2023 and sectors * SECTOR % SIZE_UNIT_2023 == 0:
            return Dialect.CROSVM_2023
        return None
    plain = behind == 0 and mbr_count == min(sectors - 1, MBR_MAX)
    return Dialect.STRICT if plain and primary.entries_lba == 2 else None
