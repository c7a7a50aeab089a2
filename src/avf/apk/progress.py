"""A progress bar for a terminal."""

import os
import sys
import time
from types import TracebackType
from typing import TextIO

_WIDTH = 40
_DELAY = 0.5
_INTERVAL = 0.1


def bar(label: str, fd: int) -> "Bar":
    """A bar on standard error for work on the bytes of `fd`."""
    return Bar(sys.stderr, label, os.fstat(fd).st_size)


class Bar:
    """Shows on `out`, if that is a terminal, how much of `total` bytes is done; only work that takes long shows.

    Call it with the bytes done so far. Leaving the context wipes the bar off.
    """

    def __init__(self, out: TextIO, label: str, total: int) -> None:
        self._out = out
        self._label = label
        self._total = max(total, 1)
        self._next = time.monotonic() + _DELAY if out.isatty() else float("inf")
        self._shown = 0

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._out.write("\r" + " " * self._shown + "\r")
            self._out.flush()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _INTERVAL
        share = min(done / self._total, 1)
        filled = "#" * round(share * _WIDTH)
        text = f"{self._label} [{filled:<{_WIDTH}}] {share:4.0%}"
        self._shown = len(text)
        self._out.write("\r" + text)
        self._out.flush()
