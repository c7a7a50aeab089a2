"""Copy a ZIP, without the files of its signatures if asked, every stored entry's data aligned.

A local header of the copy names the compression method that the directory does.
"""

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from avf.apk.errors import EntryError
from avf.apk.signing_block import is_made_by_signing, is_v1_signature
from avf.apk.source import Source
from avf.apk.zip import STORED, Entry, ZipSections, data_offset, iter_headers

WORD = 4
LIBRARY_PAGE = 16384
"""Native libraries begin on a page; the largest that Android has."""
_ALIGNMENT_EXTRA_ID = 0xD935
_COPY_SIZE = 1 << 20
_LOCAL_SIZE = 30
_METHOD_FIELD = 8
_MAX_EXTRA = 0xFFFF
_EXTRA_LENGTH_FIELD = 28
_CD_HEADER_OFFSET_FIELD = 42


class Part(NamedTuple):
    """One entry: its local header with extra field and data, [start, data) and [data, end)."""

    entry: Entry
    directory_header: bytes
    data: int
    end: int


def has_v1_signature(source: Source, sections: ZipSections) -> bool:
    """Is there an entry that is part of a v1 signature?"""
    return any(is_v1_signature(entry.name) for entry, _ in iter_headers(source, sections))


def has_replaced(source: Source, sections: ZipSections) -> bool:
    """Is there an entry that signing anew replaces?"""
    return any(is_made_by_signing(entry.name) for entry, _ in iter_headers(source, sections))


def is_aligned(source: Source, sections: ZipSections, page: int = LIBRARY_PAGE) -> bool:
    """Do the data of every stored entry begin where `rewrite` would put them?"""
    return next(misaligned(source, sections, page), None) is None


def misaligned(
    source: Source, sections: ZipSections, page: int = LIBRARY_PAGE
) -> Iterator[tuple[Entry, int]]:
    """The stored entries whose data do not begin on their boundary, and where they begin."""
    for entry, _ in iter_headers(source, sections):
        if entry.method == STORED:
            offset = data_offset(source, entry, any_method=True)
            if offset % alignment_of(entry, page):
                yield entry, offset


def alignment_of(entry: Entry, page: int = LIBRARY_PAGE) -> int:
    """A page for native libraries, else a word."""
    return page if is_library(entry.name) else WORD


def is_library(name: str) -> bool:
    """Is an entry of this name a native library? In any folder, as for zipalign and apksigner."""
    return name.endswith(".so")


def rewrite(
    source: Source,
    sections: ZipSections,
    front: int,
    out: BinaryIO,
    page: int = LIBRARY_PAGE,
    *,
    is_left_out: Callable[[str], bool] = lambda name: False,
) -> tuple[bytes, int]:
    """Write the entries before byte `front` to `out`; the new central directory and the number of entries.

    `is_left_out` is asked with the name of each entry. EntryError if entries overlap.
    """
    directory: dict[Entry, bytes] = {}
    parts = list(_parts(source, sections, front))
    for part in parts:
        if is_left_out(part.entry.name):
            continue
        directory[part.entry] = _with_offset(part.directory_header, out.tell())
        _copy_entry(source, part, out, alignment_of(part.entry, page))
    kept = [directory[entry] for entry, _ in iter_headers(source, sections) if entry in directory]
    return b"".join(kept), len(kept)


def _parts(source: Source, sections: ZipSections, front: int) -> Iterator[Part]:
    """The entries in the order of their data."""
    found = sorted(iter_headers(source, sections), key=lambda item: item[0].header_offset)
    ends = [entry.header_offset for entry, _ in found[1:]] + [front]
    for (entry, header), end in zip(found, ends, strict=True):
        data = data_offset(source, entry, any_method=True)
        if data + entry.compressed_size > end:
            raise EntryError(
                f"ZIP entry {entry.name!r} overlaps what comes at byte {end}",
                offset=entry.header_offset,
            )
        yield Part(entry, header, data, end)


def _copy_entry(source: Source, part: Part, out: BinaryIO, alignment: int) -> None:
    entry = part.entry
    start = entry.header_offset
    local = source.read_at(start, part.data - start)
    field = _METHOD_FIELD
    local = local[:field] + struct.pack("<H", entry.method) + local[field + 2 :]
    if entry.method == STORED:
        name_end = _LOCAL_SIZE + len(entry.raw_name)
        extra = _aligned(local[name_end:], out.tell() + name_end, alignment)
        if len(extra) > _MAX_EXTRA:
            raise EntryError(
                f"ZIP entry {entry.name!r} has no room for its alignment", offset=start
            )
        field = _EXTRA_LENGTH_FIELD
        head = local[:field] + struct.pack("<H", len(extra)) + local[field + 2 : name_end]
        local = head + extra
    out.write(local)
    for offset in range(part.data, part.end, _COPY_SIZE):
        out.write(source.read_at(offset, min(_COPY_SIZE, part.end - offset)))


def _aligned(extra: bytes, position: int, alignment: int) -> bytes:
    """The extra field at `position` with an alignment field that puts what follows it on a boundary."""
    others = b"".join(_other_fields(extra))
    padding = -(position + len(others) + 6) % alignment
    field = struct.pack("<HHH", _ALIGNMENT_EXTRA_ID, 2 + padding, alignment) + bytes(padding)
    return others + field


def _other_fields(extra: bytes) -> Iterator[bytes]:
    """The fields that are neither alignment nor padding."""
    position = 0
    while len(extra) - position >= 4:
        kind, size = struct.unpack_from("<HH", extra, position)
        end = position + 4 + size
        if end > len(extra):
            return
        if kind not in (0, _ALIGNMENT_EXTRA_ID):
            yield extra[position:end]
        position = end


def eocd_for(eocd: bytes, directory: bytes, count: int, offset: int) -> bytes:
    """The EOCD for another central directory of `count` entries at `offset`."""
    fields = struct.pack("<HHII", count, count, len(directory), offset)
    return eocd[:8] + fields + eocd[8 + len(fields) :]


def _with_offset(header: bytes, offset: int) -> bytes:
    field = _CD_HEADER_OFFSET_FIELD
    return header[:field] + struct.pack("<I", offset) + header[field + 4 :]
