"""Single keys of a terminal."""

import os
import select
import sys
import termios
import threading
import tty
from contextlib import ExitStack
from typing import Self

_QUIT = frozenset(b"qQ")


class Keys:
    """Reads keys as they are pressed while the context is open, if `live` and standard input is a terminal."""

    def __init__(self, *, live: bool) -> None:
        self._fd: int | None = None
        if live and sys.stdin is not None and sys.stdin.isatty():
            self._fd = sys.stdin.fileno()
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        if self._fd is not None:
            before = termios.tcgetattr(self._fd)
            self._undo.callback(termios.tcsetattr, self._fd, termios.TCSADRAIN, before)
            tty.setcbreak(self._fd)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._undo.close()

    def quit_within(self, seconds: float) -> bool:
        """Whether q was pressed; returns at any key, else after `seconds`."""
        if self._fd is None:
            threading.Event().wait(seconds)
            return False
        if not select.select([self._fd], [], [], seconds)[0]:
            return False
        pressed = os.read(self._fd, 64)
        if not pressed:  # the terminal is gone
            self._fd = None
        return bool(_QUIT.intersection(pressed))
