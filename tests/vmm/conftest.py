"""Counts what a VM may leave behind: processes, descriptors, threads."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import children
from tests.eventually import eventually

LASTING = {"MainThread", "spawner"}


def open_descriptors() -> dict[str, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:
            continue
    return {fd: name for fd, name in found.items() if "/proc/" not in name}


def children_of(pid: int) -> list[int]:
    """The pids of a process's children, however its threads come and go while they are counted.

    The first process of a sandbox that has ended is nobody's child: it comes to this one, which is a subreaper.
    """
    while True:
        try:
            return [child for child in children(pid) if not reaped(child)]
        except FileNotFoundError:
            continue


def reaped(pid: int) -> bool:
    """Reaps what was orphaned together with a sandbox."""
    text = Path(f"/proc/{pid}/stat").read_text()
    if "(bwrap) Z" not in text:
        return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return True


def descendants_of(pid: int) -> list[int]:
    """The pids of a process's children, and of theirs."""
    found = children_of(pid)
    for child in found:
        with contextlib.suppress(FileNotFoundError):
            found += children(child)
    return found


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    descriptors, children = open_descriptors(), set(children_of(os.getpid()))
    threads = set(threading.enumerate())
    yield
    # The first process of a sandbox may end a moment after bubblewrap.
    eventually(lambda: set(children_of(os.getpid())) - children, set())
    assert {thread.name for thread in set(threading.enumerate()) - threads} <= LASTING
    assert not open_descriptors().items() - descriptors.items()
