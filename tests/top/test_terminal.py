"""`vm top` at a terminal of its own."""

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from struct import pack

import pytest

from tests.eventually import eventually

BLOCKED = """
import sys
sys.modules["textual"] = None
import importlib.util
importlib.util.find_spec = lambda name: None
from avf.cli import main
sys.argv = ["vm", "top"]
main()
"""


class Terminal:
    """A process at a terminal, of which everything that is shown is kept."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self._ours = ours
        self.process = process
        self.shown = b""

    def shows(self, text: bytes) -> bool:
        try:
            while data := os.read(self._ours, 65_536):
                self.shown += data
        except (BlockingIOError, OSError):
            pass
        return text in self.shown

    def ended(self) -> int | None:
        """The exit status. What is shown is read on, for a process waits until it is."""
        self.shows(b"")
        return self.process.poll()

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)


@contextmanager
def at_a_terminal(*command: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(theirs)
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.set_blocking(ours, False)
        terminal = Terminal(ours, process)
        try:
            yield terminal
            assert termios.tcgetattr(theirs) == before
        finally:
            process.kill()
            process.wait()
            os.close(ours)
            os.close(theirs)


VM = (sys.executable, "-m", "avf.cli", "top")


@pytest.mark.parametrize(
    ("leave", "status"),
    [
        (lambda terminal: terminal.type(b"q"), 0),
        (lambda terminal: terminal.type(b"\x03"), 0),
        (lambda terminal: terminal.process.terminate(), 128 + signal.SIGTERM),
        (lambda terminal: terminal.process.send_signal(signal.SIGHUP), 128 + signal.SIGHUP),
    ],
)
def test_the_terminal_is_as_before(
    runtime_dir: Path, leave: Callable[[Terminal], None], status: int
) -> None:
    with at_a_terminal(*VM) as terminal:
        eventually(lambda: terminal.shows(b"No VM runs."), True, 60)
        assert b"\x1b[?1049h" in terminal.shown
        leave(terminal)
        eventually(lambda: terminal.shows(b"\x1b[?1049l"), True, 60)
        eventually(terminal.ended, status, 60)
        assert terminal.shown.rindex(b"\x1b[?25h") > terminal.shown.rindex(b"\x1b[?25l")


def test_a_light_terminal_is_asked(runtime_dir: Path) -> None:
    with at_a_terminal(*VM) as terminal:
        eventually(lambda: terminal.shows(b"\x1b]11;?\x1b\\"), True, 60)
        terminal.type(b"\x1b]11;rgb:ffff/ffff/ffff\x1b\\\x1b[?62c")
        eventually(lambda: terminal.shows(b"No VM runs."), True, 60)
        assert b"48;2;252;252;251" in terminal.shown
        terminal.type(b"q")
        eventually(terminal.ended, 0, 60)


def test_without_textual_there_is_the_table(runtime_dir: Path) -> None:
    with at_a_terminal(sys.executable, "-c", BLOCKED) as terminal:
        eventually(lambda: terminal.shows(b"q leaves."), True, 60)
        assert b"CID  NAME  STATE" in terminal.shown
        assert b"`pip install 'avf-linux[top]'` brings a view" in terminal.shown
        terminal.type(b"q")
        eventually(terminal.ended, 0, 60)


@pytest.mark.parametrize("arguments", [("--help",), ("ls",), ("top", "--once"), ("top", "--help")])
def test_nothing_else_needs_textual(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Nor rich, which comes with it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    code = """
import sys
sys.modules["textual"] = sys.modules["rich"] = None
from avf.cli.command import vm
vm.main(sys.argv[1:], standalone_mode=False)
"""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
