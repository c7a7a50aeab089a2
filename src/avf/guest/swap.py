"""Compressed memory as swap, as large as the memory, as Microdroid has it."""

import os

from avf.guest import libc
from avf.guest.files import write_text
from avf.guest.report import log

_DEVICE = "/dev/zram0"
_DISK_SIZE = "/sys/block/zram0/disksize"
_PAGE = 4096
_MAGIC = b"SWAPSPACE2"
_MAX_SIZE = 1 << 33


_enabled = False


def enable_swap() -> None:
    """Best effort; a failure only costs a log line. Only the first call does anything."""
    global _enabled
    if _enabled:
        return
    _enabled = True
    try:
        size = memory_size()
        write_text(_DISK_SIZE, str(size))
        fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(fd, swap_header(size), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        libc.swapon(_DEVICE)
    except OSError as error:
        log(f"no swap: {error}")


def memory_size() -> int:
    """Bytes of memory, in whole pages, as far as swap goes."""
    return min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), _MAX_SIZE) // _PAGE * _PAGE


def swap_header(size: int) -> bytes:
    """The first page of a swap area: version 1, number of the last page, no bad pages (union swap_header of Linux)."""
    header = bytearray(_PAGE)
    header[1024:1032] = (1).to_bytes(4, "little") + (size // _PAGE - 1).to_bytes(4, "little")
    header[-len(_MAGIC) :] = _MAGIC
    return bytes(header)
