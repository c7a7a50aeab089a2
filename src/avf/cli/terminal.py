"""The terminal of the command itself."""

import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def raw_terminal(*, keep_output: bool = False) -> Iterator[None]:
    """Every key is for the guest; what the terminal was is restored in the end, whatever the end is.

    `keep_output`: what is shown is still shown as usual, for a guest whose end is no terminal.
    """
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        if keep_output:
            raw = termios.tcgetattr(fd)
            raw[1] |= termios.OPOST
            termios.tcsetattr(fd, termios.TCSADRAIN, raw)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
