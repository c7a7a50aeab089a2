"""The contents of ZIP entries as Android reads them to check v1 signatures: the CRC-32 does not count.

Android takes whatever is not stored for deflated, and asks that local header and directory say the same.
"""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator

from avf.apk.errors import EntryError
from avf.apk.source import Source, page_buffer
from avf.apk.zip import STORED, Entry

_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_HAS_DESCRIPTOR = 1 << 3
_STEP = 1 << 18
_INPUT = 1 << 16


def read_contents(source: Source, entry: Entry, end: int, limit: int) -> bytes:
    """All of one entry; EntryError if it is damaged or longer than `limit`. `end` is where the entries end."""
    if entry.size > limit:
        raise _error(entry, f"has {entry.size} bytes, at most {limit} allowed")
    data = io.BytesIO()
    for piece in pieces(source, entry, end):
        data.write(piece)
    return data.getvalue()


def pieces(source: Source, entry: Entry, end: int) -> Iterator[bytes | memoryview]:
    """The contents of one entry piece by piece; a piece is overwritten when the second one after it is asked for."""
    start = _data_start(source, entry, end)
    if entry.method == STORED:
        return _stored(source, start, entry.size)
    return _inflated(entry, _read_steps(source, start, entry.compressed_size))


def read_packed(source: Source, entry: Entry, end: int) -> bytes:
    """The bytes of one entry as they lie in the file, to be unpacked later."""
    start = _data_start(source, entry, end)
    return source.read_at(start, packed_size(entry))


def unpack(entry: Entry, packed: bytes) -> Iterator[bytes]:
    """The contents piece by piece, of what `read_packed` read."""
    return iter([packed]) if entry.method == STORED else _inflated(entry, [packed])


def packed_size(entry: Entry) -> int:
    """The length of what `read_packed` reads."""
    return entry.size if entry.method == STORED else entry.compressed_size


def _stored(source: Source, start: int, size: int) -> Iterator[memoryview]:
    buffers = [page_buffer(min(size, _STEP) or 1) for _ in range(2)]
    for number, offset in enumerate(range(start, start + size, _STEP)):
        piece = buffers[number % 2][: start + size - offset]
        source.read_into(piece, offset)
        yield piece


def _read_steps(source: Source, start: int, size: int) -> Iterator[bytes]:
    for offset in range(start, start + size, _INPUT):
        yield source.read_at(offset, min(_INPUT, start + size - offset))


def _inflated(entry: Entry, packed: Iterable[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj(-15)
    left = entry.size
    for pending in packed:
        while pending and not inflate.eof:
            piece = _decompress(inflate, entry, pending, min(left + 1, _STEP))
            pending = inflate.unconsumed_tail
            left -= len(piece)
            if left < 0:
                raise _error(entry, "is longer than recorded")
            yield piece
            if not piece:
                break
    if left:
        raise _error(entry, f"ends {left} bytes early")


def _decompress(inflate: "zlib._Decompress", entry: Entry, data: bytes, limit: int) -> bytes:
    try:
        return inflate.decompress(data, limit)
    except zlib.error as error:
        raise _error(entry, f"is broken: {error}") from None


def _data_start(source: Source, entry: Entry, end: int) -> int:
    """Where the data begin; local header and data must lie before byte `end`."""
    name_start = entry.header_offset + _LOCAL.size
    if name_start + len(entry.raw_name) > end:
        raise _error(entry, "has a local header that reaches into what follows the entries")
    local = source.read_at(entry.header_offset, _LOCAL.size + len(entry.raw_name))
    magic, _, flags, _, _, _, *numbers, name_length, extra_length = _LOCAL.unpack_from(local)
    if magic != _LOCAL_MAGIC:
        raise _error(entry, "has no local header")
    described = bool(flags & _HAS_DESCRIPTOR)
    if described != bool(entry.flags & _HAS_DESCRIPTOR):
        raise _error(entry, "has a data descriptor in its local header or the directory alone")
    if not described and tuple(numbers) != (entry.crc, entry.compressed_size, entry.size):
        raise _error(entry, "has a local header that contradicts the directory")
    if name_length != len(entry.raw_name) or local[_LOCAL.size :] != entry.raw_name:
        raise _error(entry, "has another name in its local header")
    data = name_start + int(name_length) + int(extra_length)
    if data + packed_size(entry) > end:
        raise _error(entry, "has data that reach into what follows the entries")
    return data


def _error(entry: Entry, reason: str) -> EntryError:
    return EntryError(f"ZIP entry {entry.name!r} {reason}", offset=entry.header_offset)
