"""Reading partition tables: our own, sgdisk's, and damaged ones field by field."""

import os
import struct
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.disk import (
    Dialect,
    Disk,
    GptTable,
    ImageError,
    Partition,
    PartitionedDisk,
    TableCopy,
    TableError,
    copy_image,
    layout,
    open_disk,
    open_image,
    open_partition,
    partition_table,
    read_partition_table,
)
from avf.disk.reader import BytesReader
from tests.disk.conftest import Exporter, MakeFile, name_of, run

SIZES = [103, 8596, 4744]


def made(dialect: Dialect = Dialect.STRICT, sizes: list[int] = SIZES) -> bytes:
    """A whole disk whose partitions hold zeros."""
    partitions = [Partition(f"part-{n}", -1) for n in range(len(sizes))]
    plan = layout(partitions, sizes, writable=False)
    table = partition_table(plan, dialect)
    return table.header.ljust(plan.footer_offset, b"\0") + table.footer


def read(content: bytes, copy: TableCopy | None = None) -> GptTable:
    return read_partition_table(BytesReader("disk", content), copy)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_what_was_written_is_read_and_told_apart(dialect: Dialect) -> None:
    table = read(made(dialect))
    assert table.dialect is dialect
    assert [(part.number, part.label, part.offset, part.size) for part in table.partitions] == [
        (1, "part-0", 20480, 4096),
        (2, "part-1", 24576, 12288),
        (3, "part-2", 36864, 8192),
    ]
    assert {str(part.type_guid) for part in table.partitions} == {
        "0fc63daf-8483-4772-8e79-3d69d8477de4"
    }
    assert table.find("part-1") == table.partitions[1]


@given(st.lists(st.integers(1, 1 << 20), max_size=20), st.sampled_from(Dialect))
def test_round_trip(sizes: list[int], dialect: Dialect) -> None:
    found = read(made(dialect, sizes)).partitions
    assert [part.size for part in found] == [-(-size // 4096) * 4096 for size in sizes]


@pytest.mark.parametrize("dialect", [Dialect.STRICT, Dialect.CROSVM])
def test_each_copy_alone(dialect: Dialect) -> None:
    content = made(dialect)
    both = read(content)
    for copy, damaged in (
        (TableCopy.PRIMARY, content[:-512] + bytes(512)),
        (TableCopy.BACKUP, bytes(1024) + content[1024:]),
    ):
        alone = read(damaged, copy)
        assert alone.partitions == both.partitions and alone.dialect is None
        with pytest.raises(TableError):
            read(damaged)


def test_the_2023_layout_field_by_field() -> None:
    """As crosvm wrote it then: the backup right behind the partitions, 64 KiB units."""
    content = made(Dialect.CROSVM_2023)
    assert len(content) == 65536
    assert content[45056 : 45056 + 16384] == content[1024 : 1024 + 16384]
    header = content[61440:61952]
    assert struct.unpack_from("<QQQQ", header, 24) == (120, 1, 40, 87)
    assert struct.unpack_from("<Q", header, 72) == (2,)
    assert struct.unpack_from("<QQ", content, 512 + 24) == (1, 120)
    assert content[61952:] == bytes(65536 - 61952)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "foreign"
    path.touch()
    os.truncate(path, 8 << 20)
    return path


def read_file(path: Path) -> GptTable:
    with path.open("rb") as file, open_image(file.fileno()) as image:
        return read_partition_table(image)


def test_sgdisks_tables(foreign: Path) -> None:
    run(
        "sgdisk", "--new=3:2048:4095", "--change-name=3:äé", "--typecode=3:8300",
        "--new=1:6144:+1M", "--typecode=1:ef00", "--attributes=1:set:2",
        "--partition-guid=1:00000000-1111-2222-3333-444444444444", str(foreign),
    )  # fmt: skip
    table = read_file(foreign)
    one, three = table.partitions
    assert (one.number, one.offset, one.size, one.attributes) == (1, 6144 * 512, 1 << 20, 4)
    assert one.guid == uuid.UUID("00000000-1111-2222-3333-444444444444")
    assert str(one.type_guid) == "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    assert (three.label, three.offset, three.size) == ("äé", 1 << 20, 1 << 20)
    assert table.dialect is Dialect.STRICT


def test_more_entries_than_usual(foreign: Path) -> None:
    run("sgdisk", "--resize-table=256", "--new=200:2048:4095", str(foreign))
    assert [part.number for part in read_file(foreign).partitions] == [200]


def test_hybrid_disks_are_refused(foreign: Path) -> None:
    run("sgdisk", "--new=1:2048:4095", "--hybrid=1", str(foreign))
    with pytest.raises(TableError, match="MBR: partition of type 0x83"):
        read_file(foreign)


def test_qemus_disk_is_the_one_we_read(
    tmp_path: Path, export: Callable[[Disk], Exporter], make_file: MakeFile
) -> None:
    parts = (Partition("rw", make_file(b"w" * 8192), True), Partition("ro", make_file(b"r" * 5000)))
    disk = PartitionedDisk(parts, True)
    (tmp_path / "qemu").write_bytes(export(disk).read_all(tmp_path / "all"))
    with (tmp_path / "qemu").open("rb") as file, open_image(file.fileno()) as image:
        table = read_partition_table(image)
        with open_partition(image, table.find("ro")) as part:
            assert part.pread(9999, 4990) == b"r" * 10 + bytes(3192)
    with open_disk(disk) as ours:
        assert ours.pread(1 << 20, 20480)[:-20480] == (tmp_path / "qemu").read_bytes()[20480:-20480]
        assert read_partition_table(ours).dialect is table.dialect is Dialect.STRICT


def test_sgdisk_reads_our_assembled_disk(tmp_path: Path, make_file: MakeFile) -> None:
    target = make_file(b"old" * 99999)
    with open_disk(PartitionedDisk((Partition("a", make_file(b"a")),))) as disk:
        copy_image(disk, target)
        assert os.fstat(target).st_size == disk.size
    assert "No problems found" in run("sgdisk", "--verify", f"/proc/{os.getpid()}/fd/{target}")


@pytest.mark.parametrize("dialect", list(Dialect))
def test_util_linux_reads_every_dialect(make_file: MakeFile, dialect: Dialect) -> None:
    """Its libblkid is what udev finds partitions by name with."""
    target = make_file(made(dialect))
    with open_image(target) as image:
        guid = read_partition_table(image).disk_guid
    probed = run("blkid", "--probe", "--output=export", name_of(target)).splitlines()
    assert {"PTTYPE=gpt", f"PTUUID={guid}"} <= set(probed)
    columns = ("--noheadings", "--raw", "--output=START,SECTORS,NAME")
    parts = run("partx", *columns, name_of(target)).splitlines()
    assert parts == ["40 8 part-0", "48 24 part-1", "72 16 part-2"]


def test_labels_that_are_missing_or_twice() -> None:
    content = made()
    label = content[1024 + 56 : 1024 + 128]
    twice = patched(content, "primary entries", 128 + 56, label)
    with pytest.raises(TableError, match="2 partitions have the label 'part-0'"):
        read(twice, TableCopy.PRIMARY).find("part-0")
    with pytest.raises(TableError, match="no partitions have the label 'x'"):
        read(content).find("x")


def patched(content: bytes, area: str, offset: int, value: bytes, *, fix: bool = True) -> bytes:
    """The disk with `value` at `offset` of an area, with checksums that are right again if `fix`."""
    size = len(content)
    starts = {
        "MBR": 0,
        "primary header": 512,
        "primary entries": 1024,
        "backup entries": size - 16896,
        "backup header": size - 512,
    }
    disk = bytearray(content)
    start = starts[area] + offset
    disk[start : start + len(value)] = value
    copy = area.partition(" ")[0]
    if fix and area != "MBR":
        header = starts[f"{copy} header"]
        if area.endswith("entries"):
            entries = bytes(disk[starts[area] : starts[area] + 16384])
            struct.pack_into("<I", disk, header + 88, zlib.crc32(entries))
        length = min(512, struct.unpack_from("<I", disk, header + 12)[0])
        struct.pack_into("<I", disk, header + 16, 0)
        struct.pack_into("<I", disk, header + 16, zlib.crc32(disk[header : header + length]))
    return bytes(disk)


def q(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def i(number: int) -> bytes:
    return struct.pack("<I", number)


HEADER_DAMAGE = [
    (0, b"EFI PARS", "no {} at sector"),
    (8, i(0x20000), "{}: revision 00000200"),
    (12, i(91), "{}: header size 91"),
    (12, i(513), "{}: header size 513"),
    (12, i(0xFFFFFFFF), "{}: header size"),
    (20, i(1), "{}: reserved field 1"),
    (24, q(5), "{}: says it is at sector 5"),
    (32, q(1 << 60), "{}: other header at"),
    (40, q(1), "{}: usable sectors 1 to"),
    (40, q(1 << 63), "{}: usable sectors"),
    (48, q(0), "{}: usable sectors 34 to 0"),
    (48, q((1 << 64) - 1), "{}: usable sectors"),
    (72, q(0), "{}: entries at sector 0"),
    (72, q(40), "{}: entries at sector 40"),
    (72, q((1 << 64) - 1), "{}: entries at sector"),
    (80, i(0), "{}: 0 entries of 128"),
    (80, i(0xFFFFFFFF), "{}: 4294967295 entries of 128"),
    (80, i(127), "{}: entries' checksum"),
    (84, i(0), "{}: entry size 0"),
    (84, i(192), "{}: entry size 192"),
    (84, i(1 << 31), "{}: entry size"),
    (88, i(7), "{}: entries' checksum"),
]


@pytest.mark.parametrize("copy", list(TableCopy))
@pytest.mark.parametrize(("offset", "value", "message"), HEADER_DAMAGE)
def test_every_field_of_a_header(copy: TableCopy, offset: int, value: bytes, message: str) -> None:
    name = f"{copy.value} header"
    damaged = patched(made(), name, offset, value)
    with pytest.raises(TableError, match=message.format(name)) as caught:
        read(damaged)
    assert str(caught.value).startswith("disk: partition table: ")
    with pytest.raises(TableError, match=message.format(name)):
        read(damaged, copy)


@pytest.mark.parametrize("copy", list(TableCopy))
@pytest.mark.parametrize("offset", [*range(92)])
def test_every_byte_of_a_header_counts(copy: TableCopy, offset: int) -> None:
    """Whatever flips, without its checksum mended, is found."""
    content = made()
    at = 512 + offset if copy is TableCopy.PRIMARY else len(content) - 512 + offset
    damaged = content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]
    with pytest.raises(TableError):
        read(damaged)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (56, b"x" * 16, "disk GUID"),
        (40, q(35), "first usable sector 34 is not the primary's 35"),
        (48, q(88), "last usable sector"),
        (32, q(126), "no backup header at sector 126"),
    ],
)
def test_copies_must_agree(offset: int, value: bytes, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read(patched(made(), "primary header", offset, value))


def test_the_backup_names_its_primary() -> None:
    damaged = patched(made(), "backup header", 32, q(2))
    with pytest.raises(TableError, match="other header's sector 2 is not the primary's 1"):
        read(damaged)


@pytest.mark.parametrize("dialect", [Dialect.STRICT, Dialect.CROSVM])
def test_other_entries_in_the_backup(dialect: Dialect) -> None:
    damaged = patched(made(dialect), "backup entries", 56, b"q", fix=dialect is Dialect.STRICT)
    with pytest.raises(TableError, match="its entries are not the primary's"):
        read(damaged)


ENTRY_DAMAGE = [
    (32, q(33), "entry 1: sectors 33 to 47"),
    (32, q(48), "entry 1: sectors 48 to 47"),
    (40, q(48), "entry 2: overlaps entry 1"),
    (40, q((1 << 64) - 1), "entry 1: sectors 40 to"),
    (56, b"\x00\xd8", "entry 1: label is not UTF-16"),
    (128 + 32, q(40), "entry 2: overlaps entry 1"),
]


@pytest.mark.parametrize("copy", list(TableCopy))
@pytest.mark.parametrize(("offset", "value", "message"), ENTRY_DAMAGE)
def test_every_field_of_an_entry(copy: TableCopy, offset: int, value: bytes, message: str) -> None:
    damaged = patched(made(), f"{copy.value} entries", offset, value)
    with pytest.raises(TableError, match=f"{copy.value} {message}"):
        read(damaged, copy)


def test_identities_are_unique() -> None:
    content = made()
    damaged = patched(content, "primary entries", 128 + 16, content[1040:1056])
    with pytest.raises(TableError, match="entry 2: has the GUID of entry 1"):
        read(damaged, TableCopy.PRIMARY)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (510, b"\0\0", "signature"),
        (446, b"\x80", "boot indicator 0x80"),
        (450, b"\x83", "no protective partitions"),
        (454, i(2), "first sector 2"),
        (458, i(5), "sector count 5"),
        (462, b"\x80", "unused partition record"),
        (466, b"\x0c", "type 0x0c"),
        (466, b"\xee", "2 protective"),
    ],
)
def test_every_field_of_the_mbr(offset: int, value: bytes, message: str) -> None:
    with pytest.raises(TableError, match=f"MBR: .*{message}"):
        read(patched(made(), "MBR", offset, value))


@pytest.mark.parametrize("length", [0, 100, 512, 1000, 1024, 1536, 20000, 65535, 65024])
def test_cut_disks(length: int) -> None:
    with pytest.raises(TableError):
        read(made()[:length])


def test_a_backup_that_is_not_at_the_end_is_not_guessed() -> None:
    with pytest.raises(TableError, match="no backup header at sector 127"):
        read(made(Dialect.CROSVM_2023), TableCopy.BACKUP)


def test_partitions_outside_the_disk_cannot_be_opened() -> None:
    content = made()
    (part, *_rest) = read(content).partitions
    with pytest.raises(ImageError, match="not inside the disk"):
        open_partition(BytesReader("short", content[:20481]), part)


@given(st.integers(0, 65535), st.integers(1, 255))
def test_any_flipped_byte(offset: int, mask: int) -> None:
    """Either it is found, or it is in no part of the table and the result is the same."""
    content = made()
    damaged = bytearray(content)
    damaged[offset] ^= mask
    try:
        table = read(bytes(damaged))
    except TableError:
        return
    assert table == read(content)
    in_table = 446 <= offset < 604 or 1024 <= offset < 17408 or offset >= 65536 - 16896
    assert (
        not in_table
        or offset >= 65024 + 92
        or offset in range(447, 450)
        or offset in range(451, 454)
    )


class Changing(BytesReader):
    """A disk somebody writes to: before every read the next of some bytes changes."""

    def __init__(self, content: bytes, changes: list[tuple[int, int]]) -> None:
        super().__init__("disk", content)
        self._changes = iter(changes)

    def _read(self, offset: int, size: int) -> bytes:
        for at, value in self._changes:
            content = bytearray(self._content)
            content[at] = value
            self._content = bytes(content)
            break
        return super()._read(offset, size)


@given(st.lists(st.tuples(st.integers(440, 1300) | st.integers(65024, 65120), st.integers(0, 255))))
def test_a_disk_that_changes_while_it_is_read(changes: list[tuple[int, int]]) -> None:
    """No mixture makes a partition that is outside the disk."""
    try:
        table = read_partition_table(Changing(made(), changes))
    except TableError:
        return
    for part in table.partitions:
        assert 0 < part.offset < part.offset + part.size <= 65536
