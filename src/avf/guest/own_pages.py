"""Gives a template's agent pages of its own, beforehand, where the start of a payload writes.

A forked process shares its memory until it writes there: then each page costs a fault, and a copy. Those that a start
writes to are known from a rehearsal, which is done in a forked process, too.
Sources: proc_pid_maps(5), proc_pid_pagemap(5), madvise(2).
"""

import os
import struct
from collections.abc import Iterable
from contextlib import suppress

from avf.guest import libc
from avf.guest.files import read_text

Range = tuple[int, int]
"""Where it begins, and where it ends, as addresses."""

_ENTRY = 8
_PRESENT, _OF_FILE, _EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56
_WRITABLE = "rw-p"
_RANGE = struct.Struct("=QQ")

rehearsed: list[Range] = []
"""What a rehearsal before this process was forked has written to."""


def written() -> list[Range]:
    """The ranges that this process alone has: it has written to them since it was forked. Raises OSError."""
    page = os.sysconf("SC_PAGE_SIZE")
    found: list[Range] = []
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for begin, end in _writable():
            size, at = (end - begin) // page * _ENTRY, begin // page * _ENTRY
            entries = memoryview(os.pread(fd, size, at)).cast("Q")
            for index, entry in enumerate(entries):
                if entry & (_PRESENT | _OF_FILE | _EXCLUSIVE) == _PRESENT | _EXCLUSIVE:
                    _append(found, begin + index * page, page)
    finally:
        os.close(fd)
    return found


def take(ranges: Iterable[Range]) -> None:
    """Gives this process pages of its own in these ranges. Best effort."""
    for begin, end in ranges:
        with suppress(OSError):  # nothing is there in this process
            libc.populate(begin, end - begin)


def pack(ranges: Iterable[Range]) -> bytes:
    return b"".join(_RANGE.pack(*one) for one in ranges)


def unpack(data: bytes) -> list[Range]:
    """What `pack` has made."""
    return list(_RANGE.iter_unpack(data))


def _writable() -> list[Range]:
    """The mappings whose pages are copied when they are written to. Raises OSError."""
    found = []
    for line in read_text("/proc/self/maps", 1 << 20).splitlines():
        addresses, rights = line.split()[:2]
        if rights == _WRITABLE:
            begin, end = (int(address, 16) for address in addresses.split("-"))
            found.append((begin, end))
    return found


def _append(ranges: list[Range], at: int, size: int) -> None:
    if ranges and ranges[-1][1] == at:
        ranges[-1] = (ranges[-1][0], at + size)
    else:
        ranges.append((at, at + size))
