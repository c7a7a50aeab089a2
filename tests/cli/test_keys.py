"""Single keys of a terminal."""

import os
import sys
import termios
from collections.abc import Iterator

import pytest

from avf.cli.keys import Keys


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The other end of a terminal that is standard input."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as stdin, os.fdopen(ours, "wb", buffering=0):
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours


def test_q_leaves_and_the_terminal_is_as_before(terminal: int) -> None:
    before = termios.tcgetattr(sys.stdin)
    with Keys(live=True) as keys:
        os.write(terminal, b"x")
        assert not keys.quit_within(60)
        os.write(terminal, b"q")
        assert keys.quit_within(60)
        assert not keys.quit_within(0.01)
    assert termios.tcgetattr(sys.stdin) == before


def test_without_a_terminal_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with Keys(live=True) as keys:
            assert not keys.quit_within(0.01)
    monkeypatch.setattr(sys, "stdin", None)
    with Keys(live=True) as keys:
        assert not keys.quit_within(0.01)
