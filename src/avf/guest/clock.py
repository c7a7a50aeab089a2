"""Keeps the guest's CLOCK_REALTIME with the host's.

A guest has no clock of its own that can be trusted: its host may be suspended, stop it, or have its own clock set. So
the agent asks the host for the time every few seconds, over the session it has anyway. An answer is wrong by at most
half of the time it took (Cristian's algorithm); a clock that is out by clearly more than that is set at once, any other
is steered by the kernel's own control loop, which also learns how fast the guest's clock runs.

The host is believed whatever it says: it owns the guest's counter and its memory, too.
"""

import threading
import time
from collections.abc import Callable

from avf.binder import BinderError
from avf.guest import libc
from avf.guest.report import log
from avf.named import NamedTuple

INTERVAL = 5.0
"""Seconds between two questions."""

_MS = 1_000_000
_GOOD_ENOUGH = 2 * _MS
_ATTEMPTS = 8
_STEP = 20 * _MS
"""A clock that is surely out by more than this, in nanoseconds, is set; it would take minutes to steer it."""
_LATEST = 1 << 62
"""The end of what the kernel can count, in nanoseconds: 2116."""


class Reading(NamedTuple):
    """How far the host's clock is ahead, in nanoseconds, and by how much that may be wrong."""

    offset: int
    error: int


def read_offset(ask: Callable[[], int], now: Callable[[], int] = time.time_ns) -> Reading:
    """The best of a few exchanges; `ask` gives the host's time. Raises ValueError for an answer that is no time."""
    best: Reading | None = None
    for _ in range(_ATTEMPTS):
        before = now()
        host = ask()
        after = now()
        if not 0 < host < _LATEST:
            raise ValueError(f"the host says that {host} ns have passed since 1970")
        reading = Reading(host - (before + after) // 2, (after - before) // 2)
        if best is None or reading.error < best.error:
            best = reading
        if best.error <= _GOOD_ENOUGH:
            break
    assert best is not None
    return best


def correct(reading: Reading, *, first: bool = False) -> None:
    """Sets or steers the clock; `first`: nobody has read it yet, so that it can be set whatever it is out by.

    A reading that tells too little changes nothing. Raises OSError.
    """
    offset, error = reading
    if abs(offset) > error + (0 if first else _STEP):
        libc.step_clock(offset, error)
    elif error <= _STEP:
        libc.steer_clock(offset, error)


def set_clock(ask: Callable[[], int]) -> bool:
    """Sets the clock before anybody reads it; whether the host tells the time. A failure only costs a log line."""
    try:
        reading = read_offset(ask)
        correct(reading, first=True)
    except (BinderError, OSError, ValueError) as error:
        log(f"the clock is not set by the host's: {error}")
        return False
    log(
        f"the clock was {reading.offset / 1e9:+.3f} s from the host's, +-{reading.error / 1e9:.3f} s"
    )
    return True


def keep_clock(ask: Callable[[], int]) -> None:
    """Has a thread keep the clock with the host's until the session ends."""
    threading.Thread(target=_keep, args=(ask,), name="clock", daemon=True).start()


def _keep(ask: Callable[[], int]) -> None:
    while True:
        time.sleep(
            INTERVAL
        )  # also over the end of a pause, if the guest's counter went on meanwhile
        try:
            correct(read_offset(ask))
        except (BinderError, OSError, ValueError) as error:
            log(f"the clock no longer follows the host's: {error}")
            return
