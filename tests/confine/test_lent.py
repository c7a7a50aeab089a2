"""Memory files that a program opens by a name, in a sandbox where nothing else has a name."""

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf import confine
from avf.confine import (
    Box,
    Child,
    Filter,
    Limits,
    existing,
    lent_folder,
    needs_of,
    python_needs,
    spawn,
)
from avf.confine.levels import VARIABLE, explain_confinement

pytestmark = pytest.mark.usefixtures("nothing_is_left")
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
NOBODY = 0x7000_0999


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing is known of this host yet, and nothing stays known."""
    monkeypatch.setenv("AVF_RUNTIME_DIR", str(tmp_path / "runtime"))
    explain_confinement.cache_clear()
    yield
    explain_confinement.cache_clear()


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, b"what was lent\n")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    yield fd
    os.close(fd)


def box_with(memory: int, uid: int | None = None) -> Box:
    needs = existing([*needs_of("/bin/sh"), *needs_of("/bin/ls")])
    return Box(Filter.OPEN, Limits(64, 1 << 20), tuple(needs), lent=(memory,), uid=uid)


def started(script: str, box: Box) -> tuple[Child, int]:
    """And the end of a pipe that gets its standard error."""
    read_end, write_end = os.pipe()
    try:
        command = ["/bin/sh", "-c", script]
        return spawn(command, fds=list(box.lent), stderr=write_end, box=box), read_end
    finally:
        os.close(write_end)


def said_by(script: str, box: Box) -> str:
    child, read_end = started(script, box)
    with open(read_end) as report:
        text = report.read()
    child.reap()
    return text


@pytest.mark.parametrize("uid", [None, NOBODY], ids=["as it is", "as another"])
@pytest.mark.parametrize("level", ["full", "limited"])
def test_what_was_lent_is_read_and_not_written(
    monkeypatch: pytest.MonkeyPatch, memory: int, level: str, uid: int | None
) -> None:
    monkeypatch.setenv(VARIABLE, "required" if level == "full" else level)
    path = f"{lent_folder()}/{memory}"
    script = f"exec 9<>{path}; read a <&9; echo $a >&2; echo x >&9; echo y >{path}"
    said = said_by(script, box_with(memory, uid))
    assert said.startswith("what was lent\n")
    assert len(said.splitlines()) == 3  # two complaints
    assert os.pread(memory, 99, 0) == b"what was lent\n"


def test_nothing_else_comes_with_it(memory: int) -> None:
    """What is seen is the open files of a process that does nothing, and its own /proc is not there."""
    said = said_by("cd /lent && ls >&2; ls -d /proc /lent/../proc/self >&2", box_with(memory))
    assert said.split("\n")[:4] == sorted(["0", "1", "2", str(memory)])
    assert said.count("No such file") == 2


def test_lending_ends(memory: int) -> None:
    """The program has what it opened; it can open it no more."""
    path = f"{lent_folder()}/{memory}"
    script = (
        f"exec 9<{path}; echo open >&2; until ! test -e {path}; do :; done; read a <&9; echo $a >&2"
    )
    child, read_end = started(script, box_with(memory))
    with open(read_end) as report:
        assert report.readline() == "open\n"
        before = children()
        child.end_lending()
        assert len(before - children()) >= 1
        assert report.readline() == "what was lent\n"
    assert child.reap() == 0


def test_who_lends_ends_with_the_program(memory: int) -> None:
    child, read_end = started("sleep 1000", box_with(memory))
    os.close(read_end)
    child.kill()
    child.reap()


def children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        found |= set((task / "children").read_text().split())
    return found


@pytest.mark.parametrize("level", ["full", "limited"])
def test_on_one_descriptor_fallocate_does_nothing_and_says_so(
    monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv(VARIABLE, "required" if level == "full" else level)
    whole, other = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("whole", "other"))
    script = f"import os; [os.posix_fallocate(fd, 0, 4096) for fd in ({whole}, {other})]"
    command = [os.path.realpath(sys.executable), "-I", "-S", "-c", script]
    needs = existing(python_needs(Path(confine.__file__).parent))
    box = Box(Filter.MONITOR, Limits(64, 1 << 20), tuple(needs), kept_whole=whole)
    with open(os.devnull, "wb") as nowhere:
        child = spawn(command, fds=[whole, other], stderr=nowhere.fileno(), box=box)
        assert child.reap() == 0
    assert [os.fstat(fd).st_size for fd in (whole, other)] == [0, 4096]
    os.close(whole)
    os.close(other)
