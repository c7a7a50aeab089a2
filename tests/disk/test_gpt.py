"""Partition tables: read by sgdisk, and compared field by field with what crosvm writes."""

import itertools
import struct
import uuid
import zlib
from pathlib import Path

import pytest

from avf.disk import Dialect, Layout, Partition, PartitionTable, layout, partition_table
from tests.disk.conftest import run

SIZES = [103, 8596, 4744]


def plan_of(sizes: list[int]) -> Layout:
    return layout([Partition(f"part-{n}", -1) for n in range(len(sizes))], sizes, writable=False)


def table_of(plan: Layout, dialect: Dialect) -> PartitionTable:
    numbers = itertools.count(1)
    return partition_table(plan, dialect, lambda: uuid.UUID(int=next(numbers)).bytes_le)


def write(path: Path, plan: Layout, table: PartitionTable) -> Path:
    with path.open("wb") as file:
        file.write(table.header)
        file.seek(plan.footer_offset)
        file.write(table.footer)
    assert path.stat().st_size == plan.size
    return path


@pytest.mark.parametrize("sizes", [SIZES, [], [1] * 128, [5 << 30, 4096]])
def test_sgdisk_finds_nothing_to_complain_about(tmp_path: Path, sizes: list[int]) -> None:
    plan = plan_of(sizes)
    image = write(tmp_path / "disk", plan, partition_table(plan))
    report = run("sgdisk", "--verify", str(image))
    assert "No problems found" in report
    assert "Warning" not in report and "Caution" not in report


def test_sgdisk_reads_what_was_meant(tmp_path: Path) -> None:
    plan = plan_of(SIZES)
    image = write(tmp_path / "disk", plan, table_of(plan, Dialect.STRICT))
    report = run("sgdisk", "--info=2", str(image))
    assert "Linux filesystem" in report
    assert "Partition unique GUID: 00000000-0000-0000-0000-000000000003" in report
    assert "First sector: 48 " in report and "Last sector: 71 " in report
    assert "Partition name: 'part-1'" in report
    assert "Disk identifier (GUID): 00000000-0000-0000-0000-000000000001" in run(
        "sgdisk", "--print", str(image)
    )


def test_every_table_has_new_identities() -> None:
    plan = plan_of(SIZES)
    first, second = (partition_table(plan).header for _ in range(2))
    guids = {
        uuid.UUID(bytes_le=header[at : at + 16])
        for header in (first, second)
        for at in (568, 1040, 1168)
    }
    assert len(guids) == 6
    assert {guid.version for guid in guids} == {4}


def gpt_fields(sector: bytes) -> dict[str, object]:
    names = "magic revision size crc reserved here other first last guid entries count entry_size entries_crc"
    fields = dict(
        zip(names.split(), struct.unpack_from("<8s4sIIIQQQQ16sQIII", sector), strict=True)
    )
    blank = sector[:16] + bytes(4) + sector[20:92]
    assert fields["crc"] == zlib.crc32(blank)
    return fields


def test_crosvms_dialect_field_by_field() -> None:
    table = table_of(plan_of(SIZES), Dialect.CROSVM)
    mbr, header, entries = table.header[:512], table.header[512:1024], table.header[1024:17408]
    assert table.header[17408:] == bytes(3072)
    assert mbr[446:462] == bytes.fromhex("00000000 ee000000 01000000 80000000")
    assert mbr[:446] == bytes(446) and mbr[510:] == b"\x55\xaa"
    primary = gpt_fields(header)
    assert (primary["magic"], primary["revision"], primary["size"]) == (
        b"EFI PART",
        b"\0\0\1\0",
        92,
    )
    assert (primary["here"], primary["other"], primary["entries"]) == (1, 127, 2)
    assert (primary["first"], primary["last"]) == (40, 48640 // 512 - 1)
    assert primary["entries_crc"] == zlib.crc32(entries)
    assert table.footer[:3584] == bytes(3584)
    assert table.footer[3584:-512] == entries
    backup = gpt_fields(table.footer[-512:])
    assert (backup["here"], backup["other"], backup["entries"]) == (127, 1, 2)


def test_the_dialects_agree_on_partitions() -> None:
    plan = plan_of(SIZES)
    strict, crosvm = table_of(plan, Dialect.STRICT), table_of(plan, Dialect.CROSVM)
    assert strict.header[1024:] == crosvm.header[1024:]
    assert gpt_fields(strict.footer[-512:])["entries"] == 48640 // 512
    assert gpt_fields(strict.header[512:1024])["first"] == 34
