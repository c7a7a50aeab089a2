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
    before = open_descriptors()
    yield
    assert not children_of(os.getpid())
    assert {thread.name for thread in threading.enumerate()} <= LASTING
    left = open_descriptors().items() - before.items()
    assert not left
