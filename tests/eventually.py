"""Waiting for what announces itself by nothing."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(get: Callable[[], T], expected: T, seconds: float = 15) -> None:
    """Asserts that `get` comes to give `expected`."""
    deadline = time.monotonic() + seconds
    while (value := get()) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert value == expected, value
