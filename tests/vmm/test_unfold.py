"""Templates as clones share them: memory files that nobody can write to any more."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.vmm import TemplateError
from avf.vmm.qemu.stream import PAGE
from avf.vmm.qemu.unfold import UnfoldedTemplate, unfold
from avf.vmm.qemu.unfolded import UnfoldedTemplates
from tests.vmm.test_stream import HEADER, REST, page, part, start

SIZE = 4 * PAGE
STREAM = (
    HEADER
    + start((b"ram", SIZE))
    + part(page(PAGE, b"1" * PAGE, b"ram"), page(2 * PAGE, b"2" * PAGE))
    + REST
)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "state"
    path.write_bytes(STREAM)
    with path.open("rb") as file:
        yield file.fileno()


@pytest.fixture
def template(stream: int) -> Iterator[UnfoldedTemplate]:
    template = unfold(stream, SIZE)
    yield template
    template.close()


def test_memory_and_the_rest(template: UnfoldedTemplate) -> None:
    memory = bytes(PAGE) + b"1" * PAGE + b"2" * PAGE + bytes(PAGE)
    assert os.pread(template.memory, 2 * SIZE, 0) == memory
    rest = HEADER + start((b"ram", SIZE)) + part() + REST
    assert os.pread(template.state, 2 * SIZE, 0) == rest
    assert template.size == SIZE + len(rest)


def test_nobody_can_change_it_who_opens_it_anew(template: UnfoldedTemplate) -> None:
    for given in (template.memory, template.state):
        fd = os.open(f"/proc/self/fd/{given}", os.O_RDWR)
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
            os.open(f"/proc/self/fd/{given}", os.O_WRONLY | os.O_TRUNC)


def test_what_is_written_to_a_private_copy_stays_private(template: UnfoldedTemplate) -> None:
    with mmap.mmap(template.memory, SIZE, flags=mmap.MAP_PRIVATE) as copy:
        copy[PAGE] = ord("x")
        assert os.pread(template.memory, 1, PAGE) == b"1"


@pytest.mark.parametrize("content", [b"", b"QEVM", b"nonsense" * 999, STREAM[:-600]])
def test_what_is_no_stream_makes_no_clone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state"
    path.write_bytes(content)
    before = set(Path("/proc/self/fd").iterdir())
    with path.open("rb") as file, pytest.raises(TemplateError, match="no clone can be made: "):
        unfold(file.fileno(), SIZE)
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_all_clones_of_one_template_share_it(stream: int) -> None:
    templates = UnfoldedTemplates()
    one, other = (templates.get("a", stream, SIZE) for _ in range(2))
    assert os.fstat(one.memory).st_ino == os.fstat(other.memory).st_ino
    another = templates.get("b", stream, SIZE)
    assert os.fstat(another.memory).st_ino != os.fstat(one.memory).st_ino
    templates.clear()
    assert os.pread(one.memory, 1, PAGE) == b"1"
    for template in (one, other, another):
        template.close()


def test_the_template_not_asked_for_for_longest_makes_room(stream: int) -> None:
    def inode(key: str) -> int:
        template = templates.get(key, stream, SIZE)
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
