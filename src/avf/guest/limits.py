"""What the payload may take of the machine, so that agent, init and file server outlive whatever it does.

A control group (version 2) bounds memory, files in memory and kernel memory included, and processes. It also makes all
processes of the payload together one party where processors are shared out. Files in memory have smaller bounds of
their own, so that a program which fills them is told ENOSPC.

Source: Documentation/admin-guide/cgroup-v2.rst of Linux.
"""

import os
import time

from avf.guest import libc
from avf.guest.files import read_text, write_text
from avf.guest.report import log
from avf.named import NamedTuple

ROOT = "/sys/fs/cgroup"
MIB = 1 << 20

_GROUP = f"{ROOT}/payload"
_CONTROLLERS = ("memory", "pids", "cpu")
_MAX_PROCESSES = 1024
_MAX_RESERVE = 16 * MIB
_MAX_DATA = 128 * MIB
_POLL = 0.002
_admitted: int | None = None
_LOG_DELAY = 1.0
_EXPENDABLE = "500"
"""oom_score_adj of the payload: if memory runs out nevertheless, it goes first. It cannot lower this."""


class Limits(NamedTuple):
    """What a payload gets. Sizes in bytes."""

    memory: int
    swap: int
    """Counted before compression, so that data which cannot be compressed does not take more memory than this."""
    processes: int
    files: dict[str, int]
    """Mount point -> size."""


def limits_for(available: int, threads: int) -> Limits:
    """From the memory that is free before the payload starts, and the threads the kernel has room for."""
    swap = available // 4
    memory = available - swap - min(_MAX_RESERVE, available // 8)
    files = {
        "/data": min(_MAX_DATA, (memory + swap) // 2),
        "/tmp": (memory + swap) // 8,
        "/dev/shm": (memory + swap) // 8,
        "/run": (memory + swap) // 32,
    }
    return Limits(memory, swap, min(_MAX_PROCESSES, threads // 2), files)


def measure() -> Limits:
    """The limits for this machine as it is now. Raises OSError."""
    available = read_text("/proc/meminfo").partition("MemAvailable:")[2].split(None, 1)[0]
    threads = int(read_text("/proc/sys/kernel/threads-max"))
    return limits_for(int(available) << 10, threads)


def make_group() -> None:
    """Makes the payload's control group, without limits. Only the first call does anything. Raises OSError."""
    if os.access(_GROUP, os.F_OK):
        return
    for controller in _CONTROLLERS:
        write_text(f"{ROOT}/cgroup.subtree_control", f"+{controller}")
    os.mkdir(_GROUP)


def admit(payload: int) -> None:
    """Puts the payload's process into its control group. Only the first call does anything. Raises OSError."""
    global _admitted
    if payload == _admitted:
        return
    make_group()
    write_text(f"{_GROUP}/cgroup.procs", str(payload))
    write_text(f"/proc/{payload}/oom_score_adj", _EXPENDABLE)
    _admitted = payload


def confine(payload: int, server: int | None, limits: Limits) -> None:
    """Puts processes under the limits: the payload's, which has not begun to run it, and the file server's if any.

    What the file server takes, the payload has asked for; if memory runs out, only the payload pays. Raises OSError.
    """
    for target, size in limits.files.items():
        flags = libc.MS_REMOUNT | libc.MS_NOSUID | libc.MS_NODEV
        if target == "/data":
            flags |= libc.MS_NOEXEC
        libc.mount("", target, "", flags, f"size={size}")
    admit(payload)
    write_text(f"{_GROUP}/memory.max", str(limits.memory))
    if os.access(f"{_GROUP}/memory.swap.max", os.F_OK):
        write_text(f"{_GROUP}/memory.swap.max", str(limits.swap))
    write_text(f"{_GROUP}/pids.max", str(limits.processes))
    if server is not None:
        write_text(f"{_GROUP}/cgroup.procs", str(server))


def enter() -> None:
    """Puts this process under the limits of the payload. Raises OSError."""
    write_text(f"{_GROUP}/cgroup.procs", "0")


def freeze(timeout: float) -> None:
    """Has all of the payload stand still. Raises TimeoutError, and has it go on, if that takes too long; OSError."""
    deadline = time.monotonic() + timeout
    write_text(f"{_GROUP}/cgroup.freeze", "1")
    while _events().get("frozen") != "1":
        if time.monotonic() > deadline:
            thaw()
            raise TimeoutError(f"the payload does not stand still within {timeout:g} s")
        time.sleep(_POLL)


def thaw() -> None:
    """Raises OSError."""
    write_text(f"{_GROUP}/cgroup.freeze", "0")


def _events() -> dict[str, str]:
    return dict(line.split() for line in read_text(f"{_GROUP}/cgroup.events").splitlines())


def make_expendable() -> None:
    """If memory runs out, this process goes before agent, init and file server. Raises OSError."""
    write_text("/proc/self/oom_score_adj", _EXPENDABLE)


def ran_out_of_memory(pid: int) -> bool:
    """Whether the kernel has killed this process of the payload for want of memory.

    The group only counts its processes that were; which ones, the kernel's log says, a moment after they are dead.
    """
    try:
        events = dict(line.split() for line in read_text(f"{_GROUP}/memory.events").splitlines())
    except OSError as error:
        log(f"cannot tell whether memory ran out: {error}")
        return False
    if events.get("oom_kill", "0") == "0":
        return False
    deadline = time.monotonic() + _LOG_DELAY
    while not names_victim(libc.kernel_log(), pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def names_victim(kernel_log: bytes, pid: int) -> bool:
    """Whether memory ran out for this process. What a process calls itself is too short to pretend that."""
    return b" of memory: Killed process %d (" % pid in kernel_log
