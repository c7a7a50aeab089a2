"""Finds and awaits the processes of one test, known by the runtime directory in their environment."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import MADE_AT, command_line

CLOCK_STEP = 0.02
"""Seconds by which the kernel may round off when a process has begun."""


def processes(runtime_dir: Path) -> dict[int, str]:
    """pid -> command line of every process of this test but the test itself, and of what these have started.

    A process that is undumpable shows its environment to root alone; for others it is one of this test if it descends
    from it, which is the reaper of all that it starts, and has begun after the directory was made: daemons of earlier
    tests take a while to leave.
    """
    mark = f"AVF_RUNTIME_DIR={runtime_dir}".encode()
    found: dict[int, str] = {}
    parents: dict[int, int] = {}
    hidden: list[int] = []
    earliest = (MADE_AT.get(runtime_dir, 0) - CLOCK_STEP) * os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            pid = int(entry.name)
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            state, parent, begun = fields[0], int(fields[1]), int(fields[19])
            parents[pid] = parent
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found[pid] = command_line(pid)
            except PermissionError:
                if state not in "ZX" and begun >= earliest:
                    hidden.append(pid)
    for pid in hidden:
        if os.getpid() in _ancestors(pid, parents):
            with contextlib.suppress(OSError):
                found[pid] = command_line(pid)
    for pid in sorted(parents):
        if parents[pid] in found and pid not in found:
            with contextlib.suppress(OSError):
                found[pid] = command_line(pid)
    return found


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while (pid := parents.get(pid, 0)) > 1:
        yield pid


def the_one(runtime_dir: Path, word: str) -> int:
    """The pid of the only process with `word` in its command line, its sandbox's builder aside."""
    matching = [
        pid
        for pid, command in processes(runtime_dir).items()
        if word in command and Path(command.split(" ", 1)[0]).name != "bwrap"
    ]
    assert len(matching) == 1, f"{word}: {matching}"
    return matching[0]


@contextlib.contextmanager
def all_end(runtime_dir: Path, *words: str, seconds: float = 20) -> Iterator[None]:
    """Every process with one of `words` in its command line when the block begins is gone `seconds` after its end."""
    with contextlib.ExitStack() as stack:
        watched = {}
        for pid, command in processes(runtime_dir).items():
            if any(word in command for word in words):
                fd = os.pidfd_open(pid)
                stack.callback(os.close, fd)
                watched[fd] = command
        assert len(watched) >= len(words), f"{words}: {watched}"
        yield
        deadline = time.monotonic() + seconds
        while watched and (left := deadline - time.monotonic()) > 0:
            for fd in select.select(list(watched), [], [], left)[0]:
                del watched[fd]
        assert not watched, f"still there: {list(watched.values())}"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
