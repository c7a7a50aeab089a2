"""Descriptors: sizes without moving offsets, private memory files, and reopening with exactly one access mode."""

import errno
import fcntl
import os
import stat
import struct
from dataclasses import dataclass

from avf.disk.errors import ImageError

GRANULE = 4096
"""Partitions and writable images come in multiples of this many bytes."""

_BLKGETSIZE64 = 0x80081272


def align_up(value: int, granule: int = GRANULE) -> int:
    return -(-value // granule) * granule


def describe(fd: int) -> str:
    """The name behind `fd` for messages, `fd N` if there is none."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    except OSError:
        return f"fd {fd}"


def stored_size(fd: int) -> int:
    """Bytes in a regular file or block device. Raises ImageError for anything else; moves no offset."""
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    if stat.S_ISBLK(status.st_mode):
        (size,) = struct.unpack("=Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))
        return int(size)
    raise ImageError(f"{describe(fd)} is neither a regular file nor a block device")


def read_at(fd: int, offset: int, size: int) -> bytes:
    """Up to `size` bytes at `offset`; fewer only at the end of the file."""
    chunks = []
    while size > 0:
        try:
            chunk = os.pread(fd, size, offset)
        except OSError as error:
            raise ImageError(f"cannot read {describe(fd)}: {error.strerror}") from error
        if not chunk:
            break
        chunks.append(chunk)
        offset += len(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def write_at(fd: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def memory_file(name: str, content: bytes = b"") -> int:
    """A new close-on-exec memfd holding `content`; the caller owns it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        write_at(fd, 0, content)
    except BaseException:
        os.close(fd)
        raise
    return fd


@dataclass(frozen=True, slots=True)
class Reopened:
    """A descriptor of our own (the receiver closes it)."""

    fd: int
    own_description: bool
    """False: it shares the giver's open file description, so locks taken on it bind nobody who has that too."""


def reopen(fd: int, *, writable: bool) -> Reopened:
    """Opens what `fd` shows once more, for reading or for reading and writing, never with more rights than `fd` has.

    Where the system refuses (the giver had more rights than we have) `fd` is duplicated instead if its access mode is
    the wanted one. Raises ImageError.
    """
    mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    wanted = os.O_RDWR if writable else os.O_RDONLY
    if mode == os.O_WRONLY:
        raise ImageError(f"{describe(fd)} is not open for reading")
    if writable and mode != os.O_RDWR:
        raise ImageError(f"{describe(fd)} is to be writable but is open for reading only")
    try:
        return Reopened(os.open(f"/proc/self/fd/{fd}", wanted | os.O_CLOEXEC), True)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.EROFS):
            raise ImageError(f"cannot open {describe(fd)} again: {error.strerror}") from error
        if mode != wanted:
            raise ImageError(f"{describe(fd)} must be open for reading only") from error
        return Reopened(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3), False)
