"""Random reads from a file descriptor, block device or file object, always checked for length."""

import os
import stat
from collections.abc import Callable
from typing import BinaryIO, Protocol, TypeAlias

from avf.apk.errors import FileChanged, InputError

Progress: TypeAlias = Callable[[int], None]
"""Told, after each read, how many bytes were read so far."""

_MIN_AHEAD = 4 << 10
_MAX_AHEAD = 256 << 10


class Source(Protocol):
    """`size` bytes that can be read anywhere."""

    size: int

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset`; InputError if the file ends before."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; InputError, before any allocation, if the file ends before."""

    def check_unchanged(self) -> None:
        """FileChanged if it can be seen that the file was written to since it was opened here."""


class FdSource:
    """A borrowed descriptor of a regular file or block device; its file offset is left alone."""

    __slots__ = ("_fd", "_written", "size")

    def __init__(self, fd: int, size: int | None = None) -> None:
        self._fd = fd
        self._written = _written(fd)
        self.size = _content_size(fd_size(fd), size)

    def read_into(self, view: memoryview, offset: int) -> None:
        _check_range(offset, len(view), self.size)
        done = 0
        while done < len(view):
            count = os.preadv(self._fd, [view[done:]], offset + done)
            if count == 0:
                raise FileChanged(
                    f"the file ends at byte {offset + done}, {self.size} expected",
                    offset=offset + done,
                )
            done += count

    def read_at(self, offset: int, length: int) -> bytes:
        _check_range(offset, length, self.size)
        data = os.pread(self._fd, length, offset)
        if len(data) == length:
            return data
        whole = bytearray(length)
        self.read_into(memoryview(whole), offset)
        return bytes(whole)

    def check_unchanged(self) -> None:
        if _written(self._fd) != self._written:
            raise FileChanged("the file was written to while it was read")


class FileSource:
    """A borrowed seekable file object; its position moves."""

    __slots__ = ("_file", "size")

    def __init__(self, file: BinaryIO, size: int | None = None) -> None:
        self._file = file
        self.size = _content_size(file.seek(0, os.SEEK_END), size)

    def read_into(self, view: memoryview, offset: int) -> None:
        view[:] = self.read_at(offset, len(view))

    def read_at(self, offset: int, length: int) -> bytes:
        _check_range(offset, length, self.size)
        self._file.seek(offset)
        pieces = []
        missing = length
        while missing:
            piece = self._file.read(missing)
            if not piece:
                end = offset + length - missing
                raise FileChanged(f"the file ends at byte {end}, {self.size} expected", offset=end)
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def check_unchanged(self) -> None:
        """Only a descriptor tells."""


class WatchedSource:
    """Another source, telling `progress` how much of it was read."""

    __slots__ = ("_done", "_inner", "_progress", "size")

    def __init__(self, inner: Source, progress: Progress) -> None:
        self._inner = inner
        self._progress = progress
        self._done = 0
        self.size = inner.size

    def read_into(self, view: memoryview, offset: int) -> None:
        self._inner.read_into(view, offset)
        self._add(len(view))

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._inner.read_at(offset, length)
        self._add(length)
        return data

    def check_unchanged(self) -> None:
        self._inner.check_unchanged()

    def _add(self, count: int) -> None:
        self._done += count
        self._progress(self._done)


class ReadAhead:
    """Another source, which reads more than it is asked for where it is read from front to back.

    It reads twice as much each time, up to 256 KiB, so that what it reads in vain is bounded by what is asked for.
    """

    __slots__ = ("_inner", "_start", "_step", "_window", "size")

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self._start = 0
        self._step = _MIN_AHEAD
        self._window = b""
        self.size = inner.size

    def read_into(self, view: memoryview, offset: int) -> None:
        self._inner.read_into(view, offset)

    def read_at(self, offset: int, length: int) -> bytes:
        first = offset - self._start
        if not 0 <= first <= first + length <= len(self._window):
            in_order = 0 <= first <= len(self._window) + _MIN_AHEAD
            self._step = min(2 * self._step, _MAX_AHEAD) if in_order else _MIN_AHEAD
            count = max(length, min(self._step, self.size - offset)) if length > 0 else length
            self._window = self._inner.read_at(offset, count)
            self._start, first = offset, 0
        return self._window[first : first + length]

    def check_unchanged(self) -> None:
        self._inner.check_unchanged()


def open_source(
    apk: int | BinaryIO, size: int | None = None, progress: Progress | None = None
) -> Source:
    """Read from `apk`, a descriptor or seekable file, as if it were `size` bytes long (default: all of it)."""
    source: Source = FdSource(apk, size) if isinstance(apk, int) else FileSource(apk, size)
    return WatchedSource(source, progress) if progress else source


def page_buffer(size: int) -> memoryview:
    """A buffer that begins on a page, into which the kernel copies files faster; the guest may have none."""
    try:
        import mmap
    except ImportError:
        return memoryview(bytearray(size))
    return memoryview(mmap.mmap(-1, size))


def fd_size(fd: int) -> int:
    """Bytes in a regular file or block device; InputError for anything else."""
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    if not stat.S_ISBLK(status.st_mode):
        raise InputError("input is not a regular file")
    position = os.lseek(fd, 0, os.SEEK_CUR)
    size = os.lseek(fd, 0, os.SEEK_END)
    os.lseek(fd, position, os.SEEK_SET)
    return size


def _written(fd: int) -> tuple[int, int]:
    """Changes when the file is written to, as far as the kernel's clock can tell."""
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns


def require_regular(fd: int, what: str) -> os.stat_result:
    """The status of `fd`, which must be a regular file; nothing is read from it."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{what} is not a regular file")
    return status


def _content_size(available: int, wanted: int | None) -> int:
    if wanted is None:
        return available
    if not 0 <= wanted <= available:
        raise InputError(f"content size {wanted} is not within the file's {available} bytes")
    return wanted


def _check_range(offset: int, length: int, size: int) -> None:
    if offset < 0 or length < 0 or offset + length > size:
        raise InputError(
            f"bytes {offset}..{offset + length} are outside of the file's {size}", offset=offset
        )
