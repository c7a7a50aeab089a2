"""The ZIP container: where its sections lie, and its entries.

Only what Android installs is accepted: nothing before the first entry, no ZIP64, the central directory ends where
the end-of-central-directory record (EOCD) begins. Zeros that pad the file to a multiple of 4096, as on a
partition, are no part of it. Source: PKWARE APPNOTE.TXT 6.3.3, sections 4.3 and 4.4.
"""

import io
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from avf.apk.errors import EntryError, ZipFormatError
from avf.apk.source import Source, open_source
from avf.named import NamedTuple

STORED = 0
DEFLATED = 8
EOCD_SIZE = 22
EOCD_CD_OFFSET_FIELD = 16

_EOCD_MAGIC = b"PK\x05\x06"
_CD_MAGIC = b"PK\x01\x02"
_LOCAL_MAGIC = b"PK\x03\x04"
_MAX_COMMENT = 0xFFFF
_PADDING_UNIT = 4096
_EOCD = struct.Struct("<4s4H2IH")
_CD_HEADER = struct.Struct("<4s6H3I5H2I")
_CD_LENGTHS = struct.Struct("<3H")
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_CD_WINDOW = 256 << 10
_MAX_CD = 64 << 20
_MAX_NAME = 4096
_FLAG_ENCRYPTED = 1
_FLAG_UTF8 = 1 << 11
_MADE_BY_UNIX = 3
_INFLATE_INPUT = 64 << 10


class ZipSections(NamedTuple):
    """Where the parts of a ZIP file lie. `size` is its true length, without padding behind the EOCD."""

    cd_offset: int
    cd_size: int
    eocd_offset: int
    eocd_size: int
    entry_count: int

    @property
    def size(self) -> int:
        return self.eocd_offset + self.eocd_size

    @property
    def cd_end(self) -> int:
        """Where the central directory ends: where the EOCD begins, unless bytes lie between them."""
        return self.cd_offset + self.cd_size


class Entry(NamedTuple):
    """One line of the central directory. `mode` is the Unix st_mode, 0 if the archive records none."""

    name: str
    mode: int
    method: int
    size: int
    compressed_size: int
    crc: int
    header_offset: int
    flags: int
    raw_name: bytes
    """The name as it is stored."""

    @property
    def is_dir(self) -> bool:
        """Whether it stands for a folder: its name ends in a slash."""
        return self.name.endswith("/")


def find_sections(source: Source, *, strict: bool = True) -> ZipSections:
    """Locate the central directory and the EOCD.

    Without `strict`, bytes between the two and the numbers of disks do not count. So platforms read the entries of an
    APK whose v1 signature they check; AVF refuses such a file, and no later scheme is looked for in front of a gap.
    """
    tail_size = min(source.size, EOCD_SIZE + _MAX_COMMENT + _PADDING_UNIT - 1)
    tail_offset = source.size - tail_size
    tail = source.read_at(tail_offset, tail_size)
    content_end = len(tail.rstrip(b"\0"))
    position = tail_size
    while (position := tail.rfind(_EOCD_MAGIC, 0, position + 3)) >= 0:
        if end := _eocd_end(tail, position, content_end, source.size):
            return _sections(source, tail_offset + position, tail[position:end], strict)
    raise ZipFormatError("Invalid ZIP: no end of central directory record", offset=source.size)


def _eocd_end(tail: bytes, position: int, content_end: int, size: int) -> int:
    """Where the record at `position` ends, 0 if what follows it is neither nothing nor padding."""
    end = position + EOCD_SIZE + int.from_bytes(tail[position + 20 : position + 22], "little")
    padding = len(tail) - end
    if padding == 0:
        return end
    aligned = size % _PADDING_UNIT == 0 and 0 < padding < _PADDING_UNIT
    return end if aligned and content_end <= end else 0


def _sections(source: Source, eocd_offset: int, eocd: bytes, strict: bool) -> ZipSections:
    _, disk, cd_disk, disk_entries, entries, cd_size, cd_offset, _ = _EOCD.unpack_from(eocd)
    if 0xFFFFFFFF in (cd_size, cd_offset):
        raise ZipFormatError("Unsupported ZIP: ZIP64 is not supported.", offset=eocd_offset)
    if strict and (disk or cd_disk or disk_entries != entries):
        raise ZipFormatError("Unsupported ZIP: it spans several disks.", offset=eocd_offset)
    if cd_size > _MAX_CD:
        raise ZipFormatError(
            f"Unsupported ZIP: central directory of {cd_size} bytes", offset=eocd_offset
        )
    gap = eocd_offset - (cd_offset + cd_size)
    if gap > 0 and source.read_at(cd_offset + gap, 4) in (_CD_MAGIC, _EOCD_MAGIC):
        raise ZipFormatError(f"Invalid ZIP: offset should be 0, but {gap}.", offset=0)
    found = ZipSections(cd_offset, cd_size, eocd_offset, len(eocd), entries)
    if gap < 0 or strict:
        check_no_gap(found)
    return found


def check_no_gap(sections: ZipSections) -> None:
    """ZipFormatError unless the EOCD begins where the central directory ends."""
    if sections.cd_end != sections.eocd_offset:
        raise ZipFormatError(
            "Invalid ZIP: EOCD should follow CD with no extra data or overlap.",
            offset=sections.eocd_offset,
        )


def entries(apk: int | BinaryIO, *, size: int | None = None) -> list[Entry]:
    """The entries of a ZIP in the order of its central directory.

    A name that comes twice and entries that share bytes with each other or with the directory are errors.
    """
    source = open_source(apk, size)
    sections = find_sections(source)
    found = list(iter_entries(source, sections))
    _check_names(found)
    _check_overlaps(found, sections.cd_offset)
    return found


def _check_names(found: list[Entry]) -> None:
    seen: set[str] = set()
    for entry in found:
        if entry.name in seen:
            raise _entry_error(entry, "occurs twice")
        seen.add(entry.name)


def _check_overlaps(found: list[Entry], end: int) -> None:
    """As far as the central directory tells: extra fields in local headers are not counted."""
    for entry in sorted(found, key=_header_offset, reverse=True):
        start = entry.header_offset
        if start + _LOCAL_HEADER.size + len(entry.raw_name) + entry.compressed_size > end:
            raise _entry_error(entry, f"overlaps what comes at byte {end}")
        end = start


def _header_offset(entry: Entry) -> int:
    return entry.header_offset


def iter_entries(source: Source, sections: ZipSections) -> Iterator[Entry]:
    """The entries one by one, never more than a window of the central directory in memory."""
    return (entry for entry, _ in iter_headers(source, sections))


def iter_headers(source: Source, sections: ZipSections) -> Iterator[tuple[Entry, bytes]]:
    """As `iter_entries`, each entry with its header in the central directory."""
    for header in _headers(source, sections):
        yield _parse_entry(header), header.window[header.start : header.end]


def iter_raw_names(source: Source, sections: ZipSections) -> Iterator[bytes]:
    """The names in the central directory as they are stored: a fast look at entries that are not checked."""
    for window, start, _, _, _ in _headers(source, sections):
        name = start + _CD_HEADER.size
        yield window[name : name + int.from_bytes(window[start + 28 : start + 30], "little")]


def check_directory(source: Source, sections: ZipSections) -> None:
    """ZipFormatError unless the central directory holds as many entries as the EOCD says, and nothing else."""
    for _ in _headers(source, sections):
        pass


class _Header(NamedTuple):
    """Where in `window`, which is read from byte `base` of the file on, a header of the central directory lies."""

    window: bytes
    start: int
    end: int
    number: int
    base: int

    def error(self, reason: str) -> ZipFormatError:
        where = f"Invalid ZIP: central directory entry {self.number}"
        return ZipFormatError(f"{where} {reason}", offset=self.base + self.start)


def _headers(source: Source, sections: ZipSections) -> Iterator[_Header]:
    """The headers of all entries. ZipFormatError if one is cut short, or if something follows the last one."""
    window, position, offset = b"", 0, sections.cd_offset
    for index in range(sections.entry_count):
        if len(window) - position < _CD_HEADER.size + 3 * 0xFFFF and offset < sections.cd_end:
            length = min(_CD_WINDOW, sections.cd_end - offset)
            window, position = window[position:] + source.read_at(offset, length), 0
            offset += length
        start, position = position, _header_end(window, position)
        header = _Header(window, start, position, index, offset - len(window))
        if not position:
            raise header.error(_fault(window[start:]))
        yield header
    end = offset - len(window) + position
    if end != sections.cd_end:
        raise ZipFormatError(
            "Invalid ZIP: the central directory is longer than its entries", offset=end
        )


def _header_end(window: bytes, start: int) -> int:
    """Where the header that begins at `start` ends, 0 if there is none or if it reaches beyond the window."""
    if len(window) - start < _CD_HEADER.size or not window.startswith(_CD_MAGIC, start):
        return 0
    end = start + _CD_HEADER.size + sum(_CD_LENGTHS.unpack_from(window, start + 28))
    return end if end <= len(window) else 0


def _fault(rest: bytes) -> str:
    """Why `rest` does not begin with a whole header."""
    if len(rest) < _CD_HEADER.size:
        return "is cut short"
    if not rest.startswith(_CD_MAGIC):
        return "has no signature"
    name_length, _, _ = _CD_LENGTHS.unpack_from(rest, 28)
    return f"has a name of {name_length} bytes" if name_length > _MAX_NAME else "is cut short"


def _parse_entry(header: _Header) -> Entry:
    fields = _CD_HEADER.unpack_from(header.window, header.start)
    _, made_by, _, flags, method, _, _, crc, compressed, size = fields[:10]
    name_length, _, _, _, _, attributes, header_offset = fields[10:]
    if 0xFFFFFFFF in (compressed, size, header_offset):
        raise header.error("needs ZIP64, which is not supported")
    if name_length > _MAX_NAME:
        raise header.error(f"has a name of {name_length} bytes")
    name_start = header.start + _CD_HEADER.size
    raw = header.window[name_start : name_start + name_length]
    mode = attributes >> 16 if made_by >> 8 == _MADE_BY_UNIX else 0
    name = _decode_name(raw, flags, header)
    return Entry(name, mode, method, size, compressed, crc, header_offset, flags, raw)


def _decode_name(raw: bytes, flags: int, header: _Header) -> str:
    """UTF-8 as on Android, whether or not the archive says so."""
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        if flags & _FLAG_UTF8:
            raise header.error("has a name that is not UTF-8") from None
        name = raw.decode("latin-1")
    if not name or "\0" in name:
        raise header.error("has an empty name or a NUL in it")
    return name


def find_entry(apk: int | BinaryIO, name: str, *, size: int | None = None) -> Entry:
    """The entry called `name`; EntryError if there is none or more than one."""
    source = open_source(apk, size)
    return find_in(source, find_sections(source), name)


def find_in(source: Source, sections: ZipSections, name: str) -> Entry:
    """As `find_entry`, where the sections are known."""
    matches = [entry for entry in iter_entries(source, sections) if entry.name == name]
    if len(matches) != 1:
        raise EntryError(f"ZIP entry {name!r} " + ("occurs twice" if matches else "not found"))
    return matches[0]


def read_entry(apk: int | BinaryIO, name: str, *, limit: int, size: int | None = None) -> bytes:
    """The contents of one entry; EntryError if it is missing, damaged or longer than `limit` bytes."""
    entry = find_entry(apk, name, size=size)
    if entry.size > limit:
        raise _entry_error(entry, f"has {entry.size} bytes, at most {limit} allowed")
    with open_entry(apk, entry, size=size) as reader:
        return reader.readall()


def open_entry(apk: int | BinaryIO, entry: Entry, *, size: int | None = None) -> "EntryReader":
    """A stream over the contents of an entry that `entries` named; borrows `apk`."""
    return EntryReader(open_source(apk, size), entry)


def entry_offset(apk: int | BinaryIO, entry: Entry, *, size: int | None = None) -> int:
    """Where the (compressed) data of an entry begin, to read a stored one in place. EntryError if it is broken."""
    return data_offset(open_source(apk, size), entry)


def data_offset(source: Source, entry: Entry, *, any_method: bool = False) -> int:
    """As `entry_offset`. With `any_method` the local header may name another method, which platforms ignore."""
    if entry.flags & _FLAG_ENCRYPTED:
        raise _entry_error(entry, "is encrypted")
    end = source.size
    start = entry.header_offset
    name_start = start + _LOCAL_HEADER.size
    if name_start + len(entry.raw_name) > end:
        raise _entry_error(entry, "has a local header outside of the file")
    local = source.read_at(start, _LOCAL_HEADER.size + len(entry.raw_name))
    magic, _, _, method, *_, name_length, extra_length = _LOCAL_HEADER.unpack_from(local)
    if magic != _LOCAL_MAGIC or not (any_method or method == entry.method):
        raise _entry_error(entry, "has a local header that contradicts the directory")
    if name_length != len(entry.raw_name) or local[_LOCAL_HEADER.size :] != entry.raw_name:
        raise _entry_error(entry, "has another name in its local header")
    data = name_start + int(name_length) + int(extra_length)
    if data + entry.compressed_size > end:
        raise _entry_error(entry, "has data that reach beyond the file")
    return data


def _entry_error(entry: Entry, reason: str) -> EntryError:
    return EntryError(f"ZIP entry {entry.name!r} {reason}", offset=entry.header_offset)


class EntryReader(io.RawIOBase):
    """Streams one entry. EntryError at the end of the stream if length or CRC-32 are not as recorded."""

    def __init__(self, source: Source, entry: Entry) -> None:
        super().__init__()
        if entry.method not in (STORED, DEFLATED):
            raise _entry_error(entry, f"has compression method {entry.method}")
        if entry.method == STORED and entry.size != entry.compressed_size:
            raise _entry_error(entry, "is stored, but its two sizes differ")
        import zlib

        self._entry = entry
        self._source = source
        self._offset = data_offset(source, entry)
        self._end = self._offset + entry.compressed_size
        self._left = entry.size
        self._crc = 0
        self._crc32 = zlib.crc32
        self._inflate = zlib.decompressobj(-15) if entry.method == DEFLATED else None
        self._zlib_error = zlib.error
        if not self._left:
            self._check_end()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        """How many bytes were read; 0 at the end. Raises EntryError if the entry is damaged."""
        view = memoryview(target).cast("B")[: self._left]
        if not len(view):
            return 0
        count = self._inflate_into(view) if self._inflate else self._copy_into(view)
        self._crc = self._crc32(view[:count], self._crc)
        self._left -= count
        if not self._left:
            self._check_end()
        return count

    def copy(self) -> "EntryReader":
        """Another reader, which goes on from the same place."""
        other = EntryReader.__new__(EntryReader)
        other.__dict__.update(self.__dict__)
        if self._inflate:
            other._inflate = self._inflate.copy()
        return other

    def readall(self) -> bytes:
        """Everything that is left, at most the recorded size."""
        data = bytearray()
        while piece := self.read(1 << 20):
            data += piece
        return bytes(data)

    def _copy_into(self, view: memoryview) -> int:
        self._source.read_into(view, self._offset)
        self._offset += len(view)
        return len(view)

    def _inflate_into(self, view: memoryview) -> int:
        assert self._inflate
        while True:
            pending = self._inflate.unconsumed_tail
            if not pending:
                length = min(_INFLATE_INPUT, self._end - self._offset)
                pending = self._source.read_at(self._offset, length)
                self._offset += length
            if data := self._decompress(pending, len(view)):
                view[: len(data)] = data
                return len(data)
            if self._inflate.eof or (
                self._offset == self._end and not self._inflate.unconsumed_tail
            ):
                raise _entry_error(self._entry, f"ends {self._left} bytes early")

    def _decompress(self, data: bytes, limit: int) -> bytes:
        assert self._inflate
        try:
            return self._inflate.decompress(data, limit)
        except self._zlib_error as error:
            raise _entry_error(self._entry, f"is broken: {error}") from None

    def _check_end(self) -> None:
        if self._crc != self._entry.crc:
            raise _entry_error(self._entry, "has contents that do not match the CRC-32")
        if self._inflate and self._decompress(self._inflate.unconsumed_tail, 1):
            raise _entry_error(self._entry, "is longer than recorded")
