"""Which files may be written over: empty ones, and those of the kind that is to be written. All others are somebody's.

    if (found := foreign(fd, Kind.IDSIG)) is not None:
        raise ...(f"{path} is no idsig: {found}")

A kind is told by a file's first bytes; of consoles and logs, which may hold anything, by a mark that we gave the file.
"""

import contextlib
import errno
import os
import re
import stat
import struct
from collections.abc import Callable
from enum import Enum

UNKNOWN = "it holds data of another kind"
"""Said of what looks like nothing that is known, such as ciphertext."""

_HEAD = 4096
_MARK = "user.avf.output"
"""The extended attribute of consoles and logs."""
_LOG_START = re.compile(
    rb"\s*(<\d+>)?\[ *\d+\.\d{3,6}\] |--------- beginning of |SeaBIOS |PCI: Fatal"
)
_HASHING = struct.Struct("<IIIB")
_IDSIG_VERSION, _SHA256, _LOG2_BLOCK = 2, 1, 12
_MAX_HASHING = 64 << 10
_ENOUGH = 3
_ROFF = re.compile(rb"(\.\\\".*\n)*\.TH ")


class Kind(Enum):
    """Of a file that a command or a function writes."""

    IDSIG = "idsig"
    APK = "APK"
    INSTANCE = "instance image"
    STORE = "new encrypted storage"
    RAW = "empty image"
    LINEAGE = "lineage"
    OUTPUT = "console or log of a VM"
    MANUAL = "manual page"
    DEPFILE = "rule of make"
    REPORT = "report of a VM"
    SPANS = "file of spans"


def foreign(fd: int, kind: Kind) -> str | None:
    """What a file that is not to be written over looks like; None for one that may be.

    Files without content may be, whatever their size; so may pipes, terminals and devices, which lose nothing.
    A file that cannot be read counts as foreign, unless it is empty. Moves no offset. Raises OSError.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or _is_hollow(fd, status):
        return None
    if kind is Kind.OUTPUT and _is_marked(fd):
        return None
    try:
        head = _read(fd)
    except OSError as error:
        return f"it has {status.st_size} bytes that cannot be read ({error.strerror})"
    return None if _TELLS[kind](head) else looks_like(head)


def mark_output(fd: int) -> None:
    """Marks a file as a console or log of ours, if its file system can keep that."""
    with contextlib.suppress(OSError):
        os.setxattr(fd, _MARK, b"1")


def looks_like(head: bytes) -> str:
    """In words, what a file is that begins so."""
    for kind in _TOLD_APART:
        if _TELLS[kind](head):
            return f"it looks like {'an' if kind.value[0] in 'aeiou' else 'a'} {kind.value}"
    for start, name in _KNOWN:
        if head.startswith(start):
            return f"it looks like {name}"
    if not _is_text(head):
        return UNKNOWN  # be it ciphertext that begins like a script: one in 65,536 does
    return "it looks like a script" if head.startswith(b"#!") else "it looks like text"


def _is_text(head: bytes) -> bool:
    try:
        head[: len(head) - 4 if len(head) == _HEAD else None].decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


_TOLD_APART = (
    Kind.IDSIG,
    Kind.INSTANCE,
    Kind.STORE,
    Kind.LINEAGE,
    Kind.MANUAL,
    Kind.REPORT,
    Kind.SPANS,
)
_QCOW2 = "a QCOW2 image"
LIKE_QCOW2 = f"it looks like {_QCOW2}"
_KNOWN = (
    (b"PK\x03\x04", "an APK or another ZIP file"),
    (b"\x7fELF", "a program or library"),
    (b"QFI\xfb", _QCOW2),
    (b"-----BEGIN", "a key or certificate"),
    (b"%PDF", "a PDF document"),
)


def _is_hollow(fd: int, status: os.stat_result) -> bool:
    """Whether a file has no content: it is empty, or one hole."""
    if not status.st_size:
        return True
    before = os.lseek(fd, 0, os.SEEK_CUR)
    try:
        os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        return error.errno == errno.ENXIO
    finally:
        os.lseek(fd, before, os.SEEK_SET)
    return False


def _read(fd: int) -> bytes:
    """The first bytes, also of a file that is open for writing only."""
    try:
        return os.pread(fd, _HEAD, 0)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(again, _HEAD, 0)
    finally:
        os.close(again)


def _is_marked(fd: int) -> bool:
    try:
        return bool(os.getxattr(fd, _MARK))
    except OSError:
        return False


def _is_idsig(head: bytes) -> bool:
    """Its header, one field of it damaged perhaps; or what an interruption leaves of one: the version alone."""
    if len(head) < _HASHING.size:
        return False
    version, size, algorithm, block = _HASHING.unpack_from(head)
    if (version, size, algorithm, block) == (_IDSIG_VERSION, 0, 0, 0):
        return True
    right = (
        version == _IDSIG_VERSION,
        0 < size <= _MAX_HASHING,
        algorithm == _SHA256,
        block == _LOG2_BLOCK,
    )
    return bool(sum(right) >= _ENOUGH)


def _starts(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(starts)


_TELLS: dict[Kind, Callable[[bytes], bool]] = {
    Kind.IDSIG: _is_idsig,
    Kind.APK: _starts(b"PK\x03\x04", b"PK\x05\x06"),
    Kind.INSTANCE: _starts(b"Android-VM-instance"),
    Kind.STORE: _starts(b"UNFORMATTED-STORAGE"),
    Kind.RAW: lambda _head: False,
    Kind.LINEAGE: _starts(struct.pack("<I", 0x3EFF39D1)),
    Kind.OUTPUT: lambda head: _LOG_START.match(head) is not None,
    Kind.MANUAL: lambda head: _ROFF.match(head) is not None,
    Kind.REPORT: _starts(b"<!DOCTYPE html>\n<!-- vm report -->"),
    Kind.SPANS: _starts(b'{"resourceSpans":'),
    Kind.DEPFILE: lambda head: re.match(rb"[^\n:]*: ", head) is not None,
}
