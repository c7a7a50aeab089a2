"""Copies a guest's memory, which mostly is not there."""

import errno
import mmap
import os
from collections.abc import Iterator

_CHUNK = 4 << 20


def copy_memory(source: int, target: int) -> Iterator[None]:
    """Copies the content of one memory file into another, empty one, pages that are not there left out.

    Nobody writes to `source` meanwhile. In pieces, after each of which the caller may do something else.

    Raises OSError.
    """
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    with mmap.mmap(source, size, prot=mmap.PROT_READ) as pages, memoryview(pages) as content:
        end = 0
        while (start := _next_data(source, end)) is not None:
            end = os.lseek(source, start, os.SEEK_HOLE)
            for at in range(start, end, _CHUNK):
                with content[at : min(at + _CHUNK, end)] as piece:
                    _write_all(target, piece, at)
                yield


def _next_data(fd: int, at: int) -> int | None:
    """Where pages are there again; None: nowhere."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def _write_all(fd: int, piece: memoryview, at: int) -> None:
    done = 0
    while done < len(piece):
        with piece[done:] as rest:
            done += os.pwrite(fd, rest, at + done)
