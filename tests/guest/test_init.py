"""PID 1, as far as it can be tried without being PID 1; the rest is in test_vm."""

import ctypes
import fcntl
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import avf
from avf.guest import init

TCGETS = 0x5401
TERMIOS = bytes(36)


@pytest.fixture
def terminals() -> Iterator[tuple[int, int]]:
    pairs = [pty.openpty(), pty.openpty()]
    yield pairs[0][1], pairs[1][1]
    for pair in pairs:
        os.close(pair[0])
        os.close(pair[1])


def test_raw_mode_is_that_of_the_c_library(terminals: tuple[int, int]) -> None:
    ours, reference = terminals
    before = fcntl.ioctl(ours, TCGETS, TERMIOS)
    libc = ctypes.CDLL(None)
    settings = ctypes.create_string_buffer(256)
    assert libc.tcgetattr(reference, settings) == 0
    libc.cfmakeraw(settings)
    assert libc.tcsetattr(reference, 0, settings) == 0
    made_raw = init.raw(before)
    assert made_raw == fcntl.ioctl(reference, TCGETS, TERMIOS)
    assert made_raw != before


def test_a_port_is_opened_raw(terminals: tuple[int, int]) -> None:
    port = init.open_port(os.ttyname(terminals[0]))
    assert port is not None
    try:
        mode = fcntl.ioctl(port, TCGETS, TERMIOS)
        assert mode == init.raw(mode)
    finally:
        os.close(port)


def test_a_port_that_never_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "_PORT_TRIES", 3)
    assert init.open_port(str(tmp_path / "port")) is None


def as_parent(source: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which orphans come to."""
    root = Path(avf.__file__).parents[1]
    prepare = f"import sys; sys.path.insert(0, {str(root)!r})\n"
    prepare += "import ctypes, os; ctypes.CDLL(None).prctl(36, 1)\nfrom avf.guest import init\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", prepare + source],
        capture_output=True,
        text=True,
        check=True,
    )


def test_the_agents_end_is_waited_for_and_orphans_are_reaped() -> None:
    done = as_parent(
        "def agent():\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: os._exit(9)\n"
        "        os._exit(8)\n"
        "    os.wait()\n"
        "    return 7\n"
        "other = init.start(lambda: 5)\n"
        "print(os.waitstatus_to_exitcode(init.wait_for(init.start(agent))))\n"
        "while True:\n"
        "    try: os.wait()\n"
        "    except ChildProcessError: break\n"
    )
    assert done.stdout == "7\n"


def test_a_killed_agent_is_told_from_one_that_ends() -> None:
    done = as_parent(
        "status = init.wait_for(init.start(lambda: os.kill(os.getpid(), 9)))\n"
        "print(os.WTERMSIG(status))\n"
    )
    assert done.stdout == "9\n"


def test_an_agent_that_raises_is_no_second_init() -> None:
    done = as_parent(
        "def agent(): raise SystemExit('no agent')\n"
        "init.report = lambda text: print(text, flush=True)\n"
        "print(init.wait_for(init.start(agent)))\n"
    )
    assert done.stdout == "the agent failed: SystemExit: no agent\n0\n"
