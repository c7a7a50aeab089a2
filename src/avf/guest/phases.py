"""When the phases of this guest's start ended, by its CLOCK_MONOTONIC: the host makes a picture of it.

Kept from init on, of which the agent is a fork.
"""

import time
from collections.abc import Callable

_names: list[str] = []
_ends: list[int] = []
_began = 0
_answered = 0


def ended(name: str, at: int | None = None) -> None:
    """The phase `name`, which began when the one before it ended, has ended: now, or at that time in nanoseconds."""
    _names.append(name)
    _ends.append(time.monotonic_ns() if at is None else at)


def begin_anew() -> None:
    """What was before is no part of this guest's start: it has just become a clone."""
    global _began
    _names.clear()
    _ends.clear()
    _began = time.monotonic_ns()


def asking(get_time: Callable[[], int]) -> Callable[[], int]:
    """`get_time`, a call of the host's, whose answers tie this guest's clock to the host's."""

    def ask() -> int:
        global _answered
        answer = get_time()
        _answered = time.monotonic_ns()
        return answer

    return ask


def report() -> tuple[list[str], list[int], int, int, int]:
    """The arguments of IVirtualMachineService.reportStartPhases, to be sent at once."""
    return _names, _ends, _began, _answered, time.monotonic_ns()
