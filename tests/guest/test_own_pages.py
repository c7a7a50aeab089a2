"""Which pages a forked process has for itself, and gets for itself."""

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator

import pytest

from avf.guest import own_pages

PAGE = os.sysconf("SC_PAGE_SIZE")
COUNT = 16


class Memory:
    """Pages that this process has written to, without huge ones."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, COUNT * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self._map.write(b"x" * COUNT * PAGE)
        self.begin = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def write(self, page: int) -> None:
        self._map[page * PAGE] = 1

    def owned(self) -> set[int]:
        """The numbers of those that this process has for itself."""
        return {
            page
            for page in range(COUNT)
            for begin, end in own_pages.written()
            if begin <= self.begin + page * PAGE < end
        }

    def range(self, first: int, count: int) -> own_pages.Range:
        return self.begin + first * PAGE, self.begin + (first + count) * PAGE


@pytest.fixture
def memory() -> Iterator[Memory]:
    yield Memory()


def in_a_fork(check: Callable[[], None]) -> None:
    pid = os.fork()
    if not pid:
        try:
            check()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_those_that_a_fork_has_written_to_are_its_own(memory: Memory) -> None:
    def check() -> None:
        assert memory.owned() == set()
        for page in (3, 4, 9):
            memory.write(page)
        assert memory.owned() == {3, 4, 9}
        assert own_pages.unpack(own_pages.pack(own_pages.written()))

    in_a_fork(check)


def test_a_fork_takes_some_without_writing_to_them(memory: Memory) -> None:
    def check() -> None:
        nothing = (1 << 20, (1 << 20) + PAGE)
        own_pages.take([nothing, memory.range(2, 3), memory.range(12, 1)])
        assert memory.owned() == {2, 3, 4, 12}
        assert memory._map[:] == b"x" * COUNT * PAGE

    in_a_fork(check)


def test_ranges_as_bytes() -> None:
    ranges = [(PAGE, 2 * PAGE), (1 << 47, (1 << 47) + PAGE)]
    assert own_pages.unpack(own_pages.pack(ranges)) == ranges
    assert own_pages.unpack(own_pages.pack([])) == []
