"""The ZIP reader, beside the standard library's writer and with every field set wrong."""

import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.apk import (
    ApkError,
    Entry,
    EntryError,
    ZipFormatError,
    entries,
    find_entry,
    open_entry,
    read_entry,
)
from avf.apk.source import FileSource
from avf.apk.zip import find_sections, iter_entries

CONTENTS = {
    "empty": b"",
    "assets/deflated": b"abc" * 100_000,
    "lib/x86_64/lib.so": bytes(range(256)) * 1000,
    "häßlich.txt": b"utf-8",
}


def archive(
    contents: dict[str, bytes] = CONTENTS, method: int = zipfile.ZIP_DEFLATED, comment: bytes = b""
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in contents.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100640 << 16
            info.create_system = 3
            file.writestr(info, data, method)
        file.comment = comment
    return out.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"a comment", b"PK\5\6" * 20, bytes(65535)])
def test_reads_what_zipfile_writes(method: int, comment: bytes) -> None:
    data = io.BytesIO(archive(method=method, comment=comment))
    found = entries(data)
    assert [(entry.name, entry.size, entry.mode) for entry in found] == [
        (name, len(content), 0o100640) for name, content in CONTENTS.items()
    ]
    for entry in found:
        with open_entry(data, entry) as reader:
            assert reader.read() == CONTENTS[entry.name]
        assert read_entry(data, entry.name, limit=1 << 20) == CONTENTS[entry.name]


@given(
    contents=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0/\\"), min_size=1, max_size=20),
        st.binary(max_size=500),
        max_size=5,
    ),
    chunk=st.integers(1, 64),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_streams_in_pieces_of_any_size(contents: dict[str, bytes], chunk: int, method: int) -> None:
    data = io.BytesIO(archive(contents, method))
    read = {}
    for entry in entries(data):
        with open_entry(data, entry) as reader:
            pieces = list(iter(lambda: reader.read(chunk), b""))
        read[entry.name] = b"".join(pieces)
    assert read == contents


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("position", [0, 1, 70_000, 199_999])
def test_a_copy_of_a_reader_goes_on_from_the_same_place(method: int, position: int) -> None:
    content = bytes(range(256)) * 782
    data = io.BytesIO(archive({"x": content}, method))
    with open_entry(data, entries(data)[0]) as reader:
        before = bytearray()
        while len(before) < position:
            before += reader.read(position - len(before))
        with reader.copy() as copy:
            assert before + copy.readall() == content
        assert before + reader.readall() == content


def test_a_large_directory_is_read_by_the_window() -> None:
    names = {f"{number:05}-" + "n" * 200: b"" for number in range(5000)}
    data = archive(names, zipfile.ZIP_STORED)
    assert [entry.name for entry in entries(io.BytesIO(data))] == list(names)


def test_a_large_directory_must_end_with_its_last_entry() -> None:
    data = bytearray(archive({f"{number:05}-" + "n" * 200: b"" for number in range(5000)}))
    sections = find_sections(FileSource(io.BytesIO(data)))
    put("eocd", 8, 1 | 1 << 16)(data, sections.cd_offset, sections.eocd_offset)
    with pytest.raises(ZipFormatError, match="longer than its entries"):
        entries(io.BytesIO(data))


def test_an_archive_without_entries() -> None:
    assert entries(io.BytesIO(archive({}))) == []


def test_mode_is_zero_when_the_archive_has_none() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        info = zipfile.ZipInfo("dos")
        info.create_system = 0
        info.external_attr = 0x20
        file.writestr(info, b"")
    assert entries(out)[0].mode == 0


def test_directories_are_entries() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.mkdir("d")
    assert [(entry.name, entry.is_dir) for entry in entries(out)] == [("d/", True)]


def test_limit_missing_and_repeated(recwarn: pytest.WarningsRecorder) -> None:
    data = io.BytesIO(archive())
    with pytest.raises(EntryError, match="has 300000 bytes, at most 299999"):
        read_entry(data, "assets/deflated", limit=299_999)
    with pytest.raises(EntryError, match="'nothing' not found"):
        read_entry(data, "nothing", limit=1)
    twice = archive({"a": b"1", "b": b"2"}, zipfile.ZIP_STORED).replace(b"b", b"a")
    for action in (entries, lambda file: find_entry(file, "a")):
        with pytest.raises(EntryError, match="'a' occurs twice"):
            action(io.BytesIO(twice))


Edit = Callable[[bytearray, int, int], None]
"""Changes an archive, given where its directory and its EOCD begin."""


def put(base: str, offset: int, value: int, size: int = 4) -> Edit:
    def edit(data: bytearray, directory: int, eocd: int) -> None:
        start = {"directory": directory, "eocd": eocd, "local": 0}[base] + offset
        data[start : start + size] = value.to_bytes(size, "little")

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("eocd", 0, 0), "no end of central directory"),
        (put("eocd", 4, 1, 2), "spans several disks"),
        (put("eocd", 6, 1, 2), "spans several disks"),
        (put("eocd", 8, 2, 2), "spans several disks"),
        (put("eocd", 10, 2, 2), "spans several disks"),
        (put("eocd", 12, 0xFFFFFFFF), "ZIP64 is not supported"),
        (put("eocd", 16, 0xFFFFFFFF), "ZIP64 is not supported"),
        (put("eocd", 12, 1), "EOCD should follow CD with no extra data or overlap"),
        (put("eocd", 16, 0x7FFFFFFF), "EOCD should follow CD with no extra data or overlap"),
        (put("eocd", 16, 0), r"offset should be 0, but \d+\."),
        (put("eocd", 20, 1, 2), "no end of central directory"),
        (put("eocd", 8, 1 | 1 << 16), "longer than its entries"),
        (put("eocd", 8, 5 | 5 << 16), "entry 4 is cut short"),
        (put("directory", 0, 0), "entry 0 has no signature"),
        (put("directory", 28, 0x1000, 2), "entry 0 is cut short"),
        (put("directory", 28, 0x1001, 2), "entry 0 has a name of 4097 bytes"),
        (put("eocd", 12, (64 << 20) + 1), "central directory of 67108865 bytes"),
        (put("directory", 28, 0, 2), "entry 0 has an empty name"),
        (put("directory", 30, 0xFFFF, 2), "entry 0 is cut short"),
        (put("directory", 32, 0xFFFF, 2), "entry 0 is cut short"),
        (put("directory", 46, 0, 1), "entry 0 has an empty name or a NUL"),
    ],
)
def test_a_wrong_section_is_named(edit: Edit, message: str) -> None:
    data = bytearray(archive())
    sections = find_sections(FileSource(io.BytesIO(data)))
    edit(data, sections.cd_offset, sections.eocd_offset)
    with pytest.raises(ZipFormatError, match=message) as caught:
        entries(io.BytesIO(data))
    assert caught.value.offset is not None
    assert 0 <= caught.value.offset <= len(data)


def test_prefix_data_is_refused() -> None:
    with pytest.raises(ZipFormatError, match=r"Invalid ZIP: offset should be 0, but 6\."):
        entries(io.BytesIO(b"prefix" + archive()))


def test_a_name_that_claims_to_be_utf8_must_be() -> None:
    data = archive({"ä": b""}).replace("ä".encode(), b"\xff\xff")
    with pytest.raises(ZipFormatError, match="not UTF-8"):
        entries(io.BytesIO(data))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, 0, "local header that contradicts"),
        (8, 99, "local header that contradicts"),
        (26, 2, "another name in its local header"),
        (30, 0x62, "another name in its local header"),
    ],
)
def test_a_wrong_local_header_is_refused(field: int, value: int, message: str) -> None:
    data = bytearray(archive({"a": b"content"}, zipfile.ZIP_STORED))
    size = 1 if field == 30 else 2
    data[field : field + size] = value.to_bytes(size, "little")
    with pytest.raises(EntryError, match=message):
        read_entry(io.BytesIO(data), "a", limit=100)


def entry_of(data: bytes) -> Entry:
    return entries(io.BytesIO(data))[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flags": 1}, "is encrypted"),
        ({"method": 12}, "compression method 12"),
        ({"size": 8}, "two sizes differ"),
        ({"size": 8, "compressed_size": 8}, "CRC-32"),
        ({"size": 6, "compressed_size": 6}, "CRC-32"),
        ({"crc": 1}, "CRC-32"),
        ({"header_offset": 10_000}, "header outside of the file"),
        ({"size": 10_000, "compressed_size": 10_000}, "reach beyond the file"),
    ],
)
def test_a_wrong_stored_entry_is_refused(changes: dict[str, Any], message: str) -> None:
    data = archive({"a": b"content"}, zipfile.ZIP_STORED)
    with (
        pytest.raises(EntryError, match=message),
        open_entry(io.BytesIO(data), entry_of(data)._replace(**changes)) as reader,
    ):
        reader.read()


@pytest.mark.parametrize(
    ("size", "message"), [(300_001, "ends 1 bytes early"), (299_999, "CRC-32")]
)
def test_a_wrong_deflated_size_is_refused(size: int, message: str) -> None:
    data = archive({"a": b"abc" * 100_000})
    with (
        pytest.raises(EntryError, match=message),
        open_entry(io.BytesIO(data), entry_of(data)._replace(size=size)) as reader,
    ):
        reader.read()


def test_a_bomb_yields_no_more_than_it_declared() -> None:
    data = archive({"a": bytes(10_000_000)})
    entry = entry_of(data)._replace(size=10, crc=0xE38A6876)
    with (
        open_entry(io.BytesIO(data), entry) as reader,
        pytest.raises(EntryError, match="longer than recorded"),
    ):
        reader.read()


def test_broken_deflate_data() -> None:
    data = bytearray(archive({"a": b"abc" * 1000}))
    data[31] ^= 0xFF
    with pytest.raises(EntryError):
        read_entry(io.BytesIO(data), "a", limit=10_000)


def test_an_empty_entry_has_its_crc_checked_too() -> None:
    data = archive({"a": b""}, zipfile.ZIP_STORED)
    with pytest.raises(EntryError, match="CRC-32"):
        open_entry(io.BytesIO(data), entry_of(data)._replace(crc=1))


@pytest.mark.parametrize(("field", "value"), [(20, 8), (42, 30)], ids=["size", "offset"])
def test_entries_that_share_bytes_are_refused(field: int, value: int) -> None:
    data = bytearray(archive({"a": b"content", "b": b"more"}, zipfile.ZIP_STORED))
    sections = find_sections(FileSource(io.BytesIO(data)))
    start = sections.cd_offset + (0 if field == 20 else 46 + 1) + field
    data[start : start + 4] = value.to_bytes(4, "little")
    with pytest.raises(EntryError, match="overlaps what comes at byte"):
        entries(io.BytesIO(data))


def test_a_bomb_of_5000_names_for_one_deflated_megabyte() -> None:
    one = archive({"00000": bytes(1 << 20)})
    sections = find_sections(FileSource(io.BytesIO(one)))
    header = one[sections.cd_offset : sections.eocd_offset]
    directory = b"".join([header.replace(b"00000", b"%05d" % number) for number in range(5000)])
    eocd = struct.pack(
        "<4s4H2IH", b"PK\5\6", 0, 0, 5000, 5000, len(directory), sections.cd_offset, 0
    )
    with pytest.raises(EntryError, match="overlaps"):
        entries(io.BytesIO(one[: sections.cd_offset] + directory + eocd))


@given(st.data())
def test_junk_never_escapes_as_another_error(data: st.DataObject) -> None:
    junk = bytearray(archive({"a": b"abc" * 100, "b": b"x"}))
    for _ in range(data.draw(st.integers(1, 6))):
        junk[data.draw(st.integers(0, len(junk) - 1))] = data.draw(st.integers(0, 255))
    file = io.BytesIO(junk)
    try:
        for entry in entries(file):
            read_entry(file, entry.name, limit=1000)
    except ApkError:
        pass


def test_a_huge_entry_count_does_not_size_anything() -> None:
    eocd = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0, 0, 0)
    source = FileSource(io.BytesIO(eocd))
    with pytest.raises(ZipFormatError, match="entry 0 is cut short"):
        list(iter_entries(source, find_sections(source)))
