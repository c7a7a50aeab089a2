"""Random reads from a file descriptor, block device or file object, always checked for length."""

import os
import stat
from typing import BinaryIO, Protocol

from avf.apk.errors import InputError


class Source(Protocol):
    """`size` bytes that can be read anywhere."""

    size: int

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset`; InputError if the file ends before."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; InputError, before any allocation, if the file ends before."""


class FdSource:
    """A borrowed descriptor of a regular file or block device; its file offset is left alone."""

    __slots__ = ("_fd", "size")

    def __init__(self, fd: int, size: int | None = None) -> None:
        self._fd = fd
        self.size = _content_size(fd_size(fd), size)

    def read_into(self, view: memoryview, offset: int) -> None:
        _check_range(offset, len(view), self.size)
        done = 0
        while done < len(view):
            count = os.preadv(self._fd, [view[done:]], offset + done)
            if count == 0:
                raise InputError(f"the file ends at byte {offset + done}, {self.size} expected")
            done += count

    def read_at(self, offset: int, length: int) -> bytes:
        _check_range(offset, length, self.size)
        data = os.pread(self._fd, length, offset)
        if len(data) == length:
            return data
        whole = bytearray(length)
        self.read_into(memoryview(whole), offset)
        return bytes(whole)


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
                raise InputError(f"the file ends at byte {offset + length - missing}")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)


def open_source(apk: int | BinaryIO, size: int | None = None) -> Source:
    """Read from `apk`, a descriptor or seekable file, as if it were `size` bytes long (default: all of it)."""
    return FdSource(apk, size) if isinstance(apk, int) else FileSource(apk, size)


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
        raise InputError(f"bytes {offset}..{offset + length} are outside of the file's {size}")
