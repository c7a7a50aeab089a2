"""Counts what a VM may leave behind: processes, descriptors, threads."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import children

LASTING = {"MainThread", "vmm-spawner"}


def open_descriptors() -> dict[str, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:
            continue
    return {fd: name for fd, name in found.items() if "/proc/" not in name}


def children_of(pid: int) -> list[int]:
    """The pids of a process's children, however its threads come and go while they are counted."""
    while True:
        try:
            return children(pid)
        except FileNotFoundError:
            continue


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    descriptors, children = open_descriptors(), set(children_of(os.getpid()))
    threads = set(threading.enumerate())
    yield
    assert not set(children_of(os.getpid())) - children
    assert {thread.name for thread in set(threading.enumerate()) - threads} <= LASTING
    assert not open_descriptors().items() - descriptors.items()
