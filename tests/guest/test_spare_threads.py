"""Threads that a template has beforehand."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.guest import spare_threads


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    original = threading._start_new_thread  # type: ignore[attr-defined]
    yield
    threading._start_new_thread = original  # type: ignore[attr-defined]
    for spare in spare_threads._waiting:
        spare.call(lambda: None, ())
    spare_threads._waiting.clear()


def threads() -> set[str]:
    """The numbers by which the kernel knows those of this process."""
    return {path.name for path in Path("/proc/self/task").iterdir()}


def native_ids(count: int) -> list[str]:
    """Of threads that run at the same time."""
    found: list[str] = []
    together = threading.Barrier(count)

    def run(given: str) -> None:
        assert given == "given"
        together.wait(30)
        found.append(str(threading.get_native_id()))

    started = [threading.Thread(target=run, args=("given",)) for _ in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(30)
        assert not thread.is_alive()
    return found


def test_the_next_threads_are_those_that_were_there() -> None:
    before = threads()
    spare_threads.keep(2)
    there = threads() - before
    assert len(there) == 2
    assert there < set(native_ids(3))  # the third is a new one
    assert not set(native_ids(2)) & there


FORK = """
import os, threading
from avf.guest import spare_threads

def run():
    thread = threading.Thread(target=os.getpid)
    thread.start()
    thread.join()

os.register_at_fork(after_in_child=run)
spare_threads.keep(2)
pid = os.fork()
if pid:
    print(os.waitpid(pid, 0)[1])
else:
    run()
    os._exit(0)
"""


def test_a_forked_process_has_none_of_them() -> None:
    """Nor has anybody whom Python calls after a fork."""
    command = [sys.executable, "-c", FORK]
    assert subprocess.run(command, check=True, capture_output=True, timeout=60).stdout == b"0\n"
