"""The state of a template on the disk, from which memory files for clones are quick to make.

    header   "avf-state 2\n", zeros up to 16 bytes; u64 bytes of memory, u64 number of runs
    run      u64 place in memory, u64 bytes; each begins where the last one has ended or behind it
    zeros    up to a multiple of 4096 bytes
    memory   the content of each run; everything between them is zeros
    rest     QEMU's stream without that memory, up to the end of the file

All numbers are big-endian, those of a run multiples of 4096.
"""

import errno
import os
import struct
from collections.abc import Iterator

from avf.vmm.qemu.stream import PAGE

_HEADER = struct.Struct(">16sQQ")
_RUN = struct.Struct(">QQ")
_MAGIC = b"avf-state 2\n".ljust(16, b"\0")
_CHUNK = 1 << 20


class FoldError(ValueError):
    """This is no state of a template, or not all of it."""


def write(memory: int, state: int, file: int) -> None:
    """Writes to the empty `file` what is in the memory file `memory`, its empty pages left out, and in `state`.

    Raises OSError.
    """
    size = os.fstat(memory).st_size
    runs = list(_runs_of(memory, size))
    head = _HEADER.pack(_MAGIC, size, len(runs)) + b"".join(_RUN.pack(*run) for run in runs)
    head += bytes(-len(head) % PAGE)
    _write_all(file, head, 0)
    at = len(head)
    for place, count in runs:
        _copy(memory, place, file, at, count)
        at += count
    _copy(state, 0, file, at, os.fstat(state).st_size)


def read(file: int, memory: int, state: int) -> None:
    """The opposite of `write`; `memory`, all zeros, is as long as the guest's memory, `state` is empty.

    Raises FoldError or OSError.
    """
    runs, at = _read_head(file, os.fstat(memory).st_size)
    for place, count in runs:
        _copy(file, at, memory, place, count)
        at += count
    rest = os.fstat(file).st_size - at
    if rest <= 0:
        raise FoldError("the state of the template ends before the rest of QEMU's stream")
    _copy(file, at, state, 0, rest)


def _runs_of(memory: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        try:
            begin = os.lseek(memory, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing follows but zeros
                return
            raise
        end = os.lseek(memory, begin, os.SEEK_HOLE)
        yield begin, end - begin


def _read_head(file: int, size: int) -> tuple[list[tuple[int, int]], int]:
    """The runs, and where their content begins."""
    head = os.pread(file, _HEADER.size, 0)
    if len(head) != _HEADER.size or not head.startswith(_MAGIC):
        raise FoldError("this is no state of a template")
    _, memory_size, count = _HEADER.unpack(head)
    if memory_size != size:
        raise FoldError(
            f"the state of the template is of {memory_size} bytes of memory, not {size}"
        )
    if count > size // PAGE:
        raise FoldError(f"the state of the template has {count} runs of pages in {size} bytes")
    table = os.pread(file, count * _RUN.size, _HEADER.size)
    if len(table) != count * _RUN.size:
        raise FoldError("the state of the template ends among its runs of pages")
    runs = list(_RUN.iter_unpack(table))
    _check(runs, size)
    end = _HEADER.size + len(table)
    return runs, end + -end % PAGE


def _check(runs: list[tuple[int, int]], size: int) -> None:
    end = 0
    for place, count in runs:
        if place < end or place % PAGE or not count or count % PAGE or place + count > size:
            raise FoldError(f"the state of the template has {count} bytes for the place {place:#x}")
        end = place + count


def _copy(source: int, at: int, target: int, place: int, count: int) -> None:
    """Raises FoldError if there is less to be read."""
    buffer = memoryview(bytearray(min(count, _CHUNK)))
    while count:
        done = os.preadv(source, [buffer[:count]], at)
        if not done:
            raise FoldError(f"the state of the template ends {count} bytes early")
        _write_all(target, buffer[:done], place)
        at, place, count = at + done, place + done, count - done


def _write_all(target: int, data: bytes | memoryview, place: int) -> None:
    while data:
        done = os.pwrite(target, data, place)
        data, place = data[done:], place + done
