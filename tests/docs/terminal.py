"""Programs that a page's samples are typed into: a shell, other terminals beside it, and a Python interpreter."""

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

_END = re.compile(rb"\x01(\d+)\n")
_INTERPRETER = """
import sys, traceback
names = {"__name__": "__main__"}
for path in map(str.strip, sys.stdin):
    try:
        exec(compile(open(path).read(), path, "exec"), names)
        failed = 0
    except BaseException:
        traceback.print_exc()
        failed = 1
    print(f"\\x01{failed}", flush=True)
"""


class _Conversation:
    """A program that is told what to do a line at a time, and shows what it prints, errors included."""

    def __init__(
        self, program: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._process = subprocess.Popen(
            program,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the program, and whatever still runs in it."""
        assert self._process.stdin and self._process.stdout
        self._signal(signal.SIGTERM)
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._signal(signal.SIGKILL)
            self._process.stdout.close()
            self._process.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def _outcome(self, seconds: float) -> tuple[int, str]:
        """Exit status and all output of what was told last. Raises TimeoutError."""
        text = self._until(_END, seconds)
        end = _END.search(text)
        assert end is not None
        self._read = text[end.end() :]
        return int(end[1]), text[: end.start()].decode()

    def _until(self, wanted: re.Pattern[bytes], seconds: float) -> bytes:
        assert self._process.stdout
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not wanted.search(self._read):
                if not selector.select(max(0, deadline - time.monotonic())):
                    raise TimeoutError(f"after {seconds} s: {self._read.decode()}")
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise TimeoutError(f"the program has ended: {self._read.decode()}")
                self._read += piece
        return self._read


class Terminal(_Conversation):
    """A shell; what it runs finds nothing on its standard input."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(["bash", "--noprofile", "--norc"], folder, environment)

    def run(self, command: str, seconds: float) -> tuple[int, str]:
        """Exit status and output. Raises TimeoutError."""
        self._begin(command)
        return self._outcome(seconds)

    def run_on(self, command: str, printed: str, seconds: float) -> None:
        """Until the command has printed that; it goes on. Raises TimeoutError, or EOFError if it ends before."""
        self._begin(command)
        wanted = re.compile(pattern(printed).encode())
        text = self._until(re.compile(wanted.pattern + b"|" + _END.pattern), seconds)
        if not wanted.search(text):
            raise EOFError(f"{command} has ended: {text.decode()}")

    def _begin(self, command: str) -> None:
        self._tell(f"{{ {command}\n}} </dev/null; printf '\\001%d\\n' $?")


class Interpreter(_Conversation):
    """Runs pieces of Python one after the other, in one namespace."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__([sys.executable, "-c", _INTERPRETER], folder, environment)

    def run(self, file: Path, seconds: float) -> tuple[int, str]:
        """0, or 1 if it raised; and what it printed. Raises TimeoutError."""
        self._tell(str(file))
        return self._outcome(seconds)


def pattern(printed: str) -> str:
    """What is shown as a regular expression: `…` stands for anything, on a line of its own for any lines.

    Columns of tables are as wide as what is in them, so that any number of spaces stands for another one.
    """
    return "".join(
        r"(?:[^\n]*\n)*?" if line == "…" else _line_pattern(line) for line in printed.splitlines()
    )


def _line_pattern(line: str) -> str:
    parts = (re.sub(r"(\\ )+", " +", re.escape(part)) for part in line.split("…"))
    return r"[^\n]*?".join(parts) + r"\r?\n"


def shows(printed: str, output: str) -> bool:
    """Whether a command that wrote `output` does as the page says it does."""
    return re.fullmatch(pattern(printed), output) is not None
