"""Decompresses what packages and kernels hold, piece by piece and only up to a bound.

The formats' own errors become ValueError, a content that ends early too; what reads names the file.
"""

import lzma
import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

_CHUNK = 256 << 10
_ZSTD_CHUNK = 512
"""A few bytes of input can be 128 KiB of output, and the library gives all of it at once."""
_MAX_WINDOW = 128 << 20
"""Bytes of what was unpacked that xz and zstd may refer back to; distributions use at most 64 MiB."""
_XZ_MEMORY = _MAX_WINDOW + (16 << 20)
_GZIP = 31
"""zlib's number for a gzip header and the largest window."""


class Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Unpacked:
    """The content of a compressed stream, read from front to back.

    Raises ValueError for damage and for more than `limit` bytes.
    """

    def __init__(self, kind: str, stream: Reader, limit: int) -> None:
        """`kind` is gz, xz, zst or tar, which is not compressed."""
        self._pieces = _KINDS[kind](stream)
        self._limit = limit
        self._got = 0
        self._buffer = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        parts = []
        while size > 0:
            if self._at == len(self._buffer) and not self._fill():
                break
            part = self._buffer[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Passes over `size` bytes; how many were there."""
        done = 0
        while done < size:
            if self._at == len(self._buffer) and not self._fill():
                break
            step = min(size - done, len(self._buffer) - self._at)
            self._at += step
            done += step
        return done

    def _fill(self) -> bool:
        try:
            piece = next(self._pieces, b"")
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError, MemoryError) as error:
            raise ValueError(str(error) or type(error).__name__) from error
        self._got += len(piece)
        if self._got > self._limit:
            raise ValueError(f"it unpacks to more than {self._limit} bytes")
        self._buffer, self._at = piece, 0
        return bool(piece)


def unpack(kind: str, stream: Reader, limit: int) -> bytes:
    """All of a compressed stream. Raises ValueError."""
    unpacked = Unpacked(kind, stream, limit)
    return unpacked.read(limit + 1)


def _inflate(stream: Reader) -> Iterator[bytes]:
    decoder = zlib.decompressobj(_GZIP)
    while not decoder.eof:
        data = decoder.unconsumed_tail or _more(stream, _CHUNK)
        if piece := decoder.decompress(data, _CHUNK):
            yield piece


def _unxz(stream: Reader) -> Iterator[bytes]:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    while not decoder.eof:
        data = _more(stream, _CHUNK) if decoder.needs_input else b""
        if piece := decoder.decompress(data, _CHUNK):
            yield piece


def _unzstd(stream: Reader) -> Iterator[bytes]:
    """One frame or several."""
    context = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    data = _more(stream, _ZSTD_CHUNK)
    while data:
        decoder = context.decompressobj()
        while True:
            if piece := decoder.decompress(data):
                yield piece
            if decoder.eof:
                break
            data = _more(stream, _ZSTD_CHUNK)
        data = decoder.unused_data or stream.read(_ZSTD_CHUNK)


def _stored(stream: Reader) -> Iterator[bytes]:
    while piece := stream.read(_CHUNK):
        yield piece


def _more(stream: Reader, size: int) -> bytes:
    data = stream.read(size)
    if not data:
        raise ValueError("it ends early")
    return data


_KINDS = {"gz": _inflate, "xz": _unxz, "zst": _unzstd, "tar": _stored}
