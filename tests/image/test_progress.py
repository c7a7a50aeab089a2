"""What is told while an image is built."""

import os
import pty
import re
import subprocess
import sys

STEPS = """
import sys
from avf.image.__main__ import _told
with _told(quiet="quiet" in sys.argv) as tell:
    tell("first [step]")
    sys.stdin.read()
    tell("second")
"""


def test_steps_in_a_file() -> None:
    result = subprocess.run(
        [sys.executable, "-c", STEPS], input="", capture_output=True, text=True, check=True
    )
    first, second = result.stderr.splitlines()
    assert re.fullmatch(r"\[ +\d+\.\ds\] first \[step\]", first)
    assert re.fullmatch(r"\[ +\d+\.\ds\] second", second)


def test_quiet_in_a_file() -> None:
    command = [sys.executable, "-c", STEPS, "quiet"]
    result = subprocess.run(command, input="", capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")


def test_quiet_at_a_terminal_shows_the_step_alone() -> None:
    shown = at_a_terminal("quiet", until=2)
    assert "first [step]" in shown
    assert not re.search(r"\ds\] first", shown)


def test_steps_at_a_terminal_are_seen_to_go_on() -> None:
    shown = at_a_terminal(until=3)  # once for good, then again and again
    assert re.search(r"\ds\] first \[step\]", shown)


def at_a_terminal(*arguments: str, until: int) -> str:
    """What is shown there until the first step has been shown so often."""
    ours, theirs = pty.openpty()
    with (
        open(ours, "rb+", buffering=0) as terminal,
        subprocess.Popen(
            [sys.executable, "-c", STEPS, *arguments],
            stdin=subprocess.PIPE,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        ) as process,
    ):
        os.close(theirs)
        shown = ""
        while shown.count("first [step]") < until:
            shown += terminal.read(4096).decode(errors="replace")
        process.communicate(timeout=30)
        assert process.returncode == 0
    return shown
