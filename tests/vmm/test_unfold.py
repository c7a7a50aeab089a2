"""Templates on the disk, and as clones share them: in memory files that nobody can write to any more."""

import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.vmm import TemplateError
from avf.vmm.qemu import folded
from avf.vmm.qemu.stream import PAGE
from avf.vmm.qemu.unfold import UnfoldedTemplate, take_apart, unfold
from avf.vmm.qemu.unfolded import UnfoldedTemplates
from tests.vmm.test_stream import HEADER, REST, page, part, start

SIZE = 4 * PAGE
STREAM = (
    HEADER
    + start((b"ram", SIZE))
    + part(page(PAGE, b"1" * PAGE, b"ram"), page(2 * PAGE, b"2" * PAGE))
    + REST
)


MEMORY = bytes(PAGE) + b"1" * PAGE + b"2" * PAGE + bytes(PAGE)
OTHER_STATE = HEADER + start((b"ram", SIZE)) + part() + REST


@pytest.fixture
def state(tmp_path: Path) -> Iterator[int]:
    """A template's, as it is kept."""
    stream, path = tmp_path / "stream", tmp_path / "state"
    stream.write_bytes(STREAM)
    with stream.open("rb") as file, path.open("w+b") as kept:
        template = take_apart(file.fileno(), SIZE)
        folded.write(template.memory, template.state, kept.fileno())
        template.close()
        yield kept.fileno()


@pytest.fixture
def template(state: int) -> Iterator[UnfoldedTemplate]:
    template = unfold(state, SIZE, shared=True)
    yield template
    template.close()


def test_memory_and_the_rest(template: UnfoldedTemplate) -> None:
    assert os.pread(template.memory, 2 * SIZE, 0) == MEMORY
    assert os.pread(template.state, 2 * SIZE, 0) == OTHER_STATE
    assert template.size == SIZE + len(OTHER_STATE)


def test_empty_pages_are_not_kept(state: int) -> None:
    assert os.fstat(state).st_size == PAGE + 2 * PAGE + len(OTHER_STATE)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.binary(min_size=1))
def test_whatever_is_kept_is_found_again(pages: list[bool], rest: bytes) -> None:
    memory = b"".join(
        bytes([number + 1 if full else 0]) * PAGE for number, full in enumerate(pages)
    )
    with ExitStack() as stack:
        fds = [os.memfd_create("test") for _ in range(5)]
        for fd in fds:
            stack.callback(os.close, fd)
        for number, full in enumerate(pages):
            if full:
                os.pwrite(fds[0], memory[number * PAGE : (number + 1) * PAGE], number * PAGE)
        for fd in (fds[0], fds[3]):
            os.ftruncate(fd, len(memory))
        os.pwrite(fds[1], rest, 0)
        folded.write(*fds[:3])
        folded.read(fds[2], *fds[3:])
        assert os.pread(fds[3], len(memory) + 1, 0) == memory
        assert os.pread(fds[4], len(rest) + 1, 0) == rest


def test_nobody_can_change_it_who_opens_it_anew(template: UnfoldedTemplate) -> None:
    for kept in (template.memory, template.state):
        fd = os.open(f"/proc/self/fd/{kept}", os.O_RDWR)
        try:
            for change in (
                lambda fd: os.pwrite(fd, b"x", 0),
                lambda fd: os.pwrite(fd, b"x", 1 << 20),
                lambda fd: os.ftruncate(fd, 0),
                lambda fd: os.ftruncate(fd, 1 << 20),
                lambda fd: mmap.mmap(fd, 16),
            ):
                with pytest.raises(PermissionError):
                    change(fd)
        finally:
            os.close(fd)
        with pytest.raises(PermissionError):
            os.open(f"/proc/self/fd/{kept}", os.O_WRONLY | os.O_TRUNC)


def test_what_becomes_of_the_file_later_changes_no_memory(
    state: int, template: UnfoldedTemplate
) -> None:
    """It is its owner's, who can write to it at any time."""
    os.pwrite(state, b"x" * 3 * PAGE, 0)
    os.ftruncate(state, PAGE)
    assert os.pread(template.memory, 2 * SIZE, 0) == MEMORY
    assert os.pread(template.state, 2 * SIZE, 0) == OTHER_STATE


def test_what_is_not_shared_can_be_written_to_by_its_clone(state: int) -> None:
    one, other = (unfold(state, SIZE, shared=False) for _ in range(2))
    os.pwrite(one.memory, b"x", PAGE)
    assert os.pread(other.memory, SIZE, 0) == MEMORY
    one.close()
    other.close()


def test_what_is_written_to_a_private_copy_stays_private(template: UnfoldedTemplate) -> None:
    with mmap.mmap(template.memory, SIZE, flags=mmap.MAP_PRIVATE) as copy:
        copy[PAGE] = ord("x")
        assert os.pread(template.memory, 1, PAGE) == b"1"


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


HEADER_OF_ONE_RUN = b"avf-state 2\n".ljust(16, b"\0") + number(SIZE) + number(1)
NO_STATES = {
    "empty": b"",
    "a stream of QEMU's": STREAM,
    "nonsense": b"nonsense" * 999,
    "another format": HEADER_OF_ONE_RUN.replace(b"2", b"1"),
    "more memory": HEADER_OF_ONE_RUN.replace(number(SIZE), number(SIZE + PAGE)),
    "more runs than pages": HEADER_OF_ONE_RUN[:-8] + number(5),
    "runs without end": HEADER_OF_ONE_RUN[:-8] + number(2**64 - 1),
    "no run": HEADER_OF_ONE_RUN,
    "a run of nothing": HEADER_OF_ONE_RUN + number(PAGE) + number(0),
    "a run of half a page": HEADER_OF_ONE_RUN + number(PAGE) + number(PAGE // 2),
    "a run from within a page": HEADER_OF_ONE_RUN + number(9) + number(PAGE),
    "a run beyond the memory": HEADER_OF_ONE_RUN + number(SIZE) + number(PAGE),
    "a run over its end": HEADER_OF_ONE_RUN + number(PAGE) + number(SIZE),
    "a run without content": HEADER_OF_ONE_RUN + number(PAGE) + number(PAGE),
    "no rest": (HEADER_OF_ONE_RUN + number(PAGE) + number(PAGE)).ljust(2 * PAGE, b"x"),
    "runs in another order": (
        HEADER_OF_ONE_RUN[:-8] + number(2) + 2 * (number(PAGE) + number(PAGE))
    ).ljust(4 * PAGE, b"x"),
}


@pytest.mark.parametrize("content", NO_STATES.values(), ids=NO_STATES)
def test_what_is_no_state_makes_no_clone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    before = set(Path("/proc/self/fd").iterdir())
    with path.open("rb") as file, pytest.raises(TemplateError, match="no clone can be made: "):
        unfold(file.fileno(), SIZE, shared=True)
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_state_that_was_cut_makes_no_clone(state: int) -> None:
    whole = os.fstat(state).st_size
    for length in (whole - len(OTHER_STATE), *range(0, PAGE, 8), 2 * PAGE, 3 * PAGE):
        with os.fdopen(os.memfd_create("cut"), "wb") as cut:
            cut.write(os.pread(state, length, 0))
            cut.flush()
            with pytest.raises(TemplateError, match="no clone can be made: "):
                unfold(cut.fileno(), SIZE, shared=True)


@pytest.mark.parametrize("content", [b"", b"QEVM", b"nonsense" * 999, STREAM[:-600]])
def test_what_is_no_stream_makes_no_template(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    before = set(Path("/proc/self/fd").iterdir())
    with path.open("rb") as file, pytest.raises(ValueError):
        take_apart(file.fileno(), SIZE)
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_all_clones_of_one_template_share_it(state: int) -> None:
    templates = UnfoldedTemplates()
    one, other = (templates.get("a", state, SIZE) for _ in range(2))
    assert os.fstat(one.memory).st_ino == os.fstat(other.memory).st_ino
    another = templates.get("b", state, SIZE)
    assert os.fstat(another.memory).st_ino != os.fstat(one.memory).st_ino
    templates.clear()
    assert os.pread(one.memory, 1, PAGE) == b"1"
    for template in (one, other, another):
        template.close()


def test_the_template_not_asked_for_for_longest_makes_room(state: int) -> None:
    def inode(key: str) -> int:
        template = templates.get(key, state, SIZE)
        try:
            return os.fstat(template.memory).st_ino
        finally:
            template.close()

    templates = UnfoldedTemplates(limit=2 * SIZE + 1000)
    first, second = inode("a"), inode("b")
    assert inode("a") == first
    inode("c")
    assert inode("a") == first
    assert inode("b") != second
    templates.clear()
