"""The rate of this host's time-stamp counter, which a guest under QEMU's TCG sees as its own.

A microvm has nothing to calibrate its TSC against but the PIT, which fails on a busy host; the guest then hangs. So it
is told the rate by `tsc_early_khz=`. A counter that the host's own kernel has found unstable is no clock for a guest.
"""

import functools
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from avf import facts

_RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
"""rdtsc; shl rdx, 32; or rax, rdx; ret"""
_INTERVAL_NS = 20_000_000
_ATTEMPTS = 5
_CLOCK_SOURCES = Path("/sys/devices/system/clocksource/clocksource0/available_clocksource")
_PLAUSIBLE_KHZ = range(100_000, 20_000_000)


@functools.cache
def tsc_khz() -> int | None:
    """The rate in kHz, to about 0.01 %; None if it cannot be told (not x86_64, no executable memory) or the counter is
    no clock.
    """
    if not is_a_clock():
        return None
    known = facts.recall("tsc_khz")
    if isinstance(known, int) and known in _PLAUSIBLE_KHZ:
        return known
    measured = _measure()
    if measured is not None:
        facts.remember("tsc_khz", measured)
    return measured


def is_a_clock(sources: Path = _CLOCK_SOURCES) -> bool:
    """Whether this host's kernel would use the counter as its clock: it does not list one that it found unstable."""
    try:
        return "tsc" in sources.read_text().split()
    except OSError:
        return True


def _measure() -> int | None:
    import ctypes  # slow to import, and needed once per boot

    if os.uname().machine != "x86_64":
        return None
    try:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    with code:
        code.write(_RDTSC)
        entry = ctypes.c_char.from_buffer(code)
        try:
            read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(entry))
            begin_ns, begin = _sample(read)
            time.sleep(_INTERVAL_NS / 1e9)
            end_ns, end = _sample(read)
        finally:
            del entry
    khz = round((end - begin) * 1_000_000 / (end_ns - begin_ns))
    return khz if khz in _PLAUSIBLE_KHZ else None


def _sample(read: Callable[[], int]) -> tuple[int, int]:
    """(nanoseconds, counter) of one moment: the tightest of a few pairs of readings."""
    best = None
    for _ in range(_ATTEMPTS):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        counter = read()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        if best is None or after - before < best[0]:
            best = (after - before, (before + after) // 2, counter)
    assert best is not None
    return best[1], best[2]
