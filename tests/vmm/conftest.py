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


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert not children(os.getpid())
    assert {thread.name for thread in threading.enumerate()} <= LASTING
    left = open_descriptors().items() - before.items()
    assert not left
