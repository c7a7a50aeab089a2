"""What is told while an image is built."""

import os
import pty
import re
import subprocess
import sys

STEPS = """
import sys
from avf.image.__main__ import _told
with _told() as tell:
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


def test_steps_at_a_terminal_are_seen_to_go_on() -> None:
    ours, theirs = pty.openpty()
    with (
        open(ours, "rb+", buffering=0) as terminal,
        subprocess.Popen(
            [sys.executable, "-c", STEPS],
            stdin=subprocess.PIPE,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        ) as process,
    ):
        os.close(theirs)
        shown = ""
        while shown.count("first [step]") < 3:  # once for good, then again and again
            shown += terminal.read(4096).decode(errors="replace")
        process.communicate(timeout=30)
        assert process.returncode == 0
