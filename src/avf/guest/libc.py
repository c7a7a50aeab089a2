"""The system calls Python has no function for. ctypes is loaded when the first of them is made."""

import os
import struct
from typing import Any, NoReturn

from avf.guest.files import read_text

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
SYSLOG_READ_ALL = 3
SYSLOG_CONSOLE_OFF = 6
SYSLOG_CONSOLE_LEVEL = 8

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECUREBITS = 0b1110_1011
"""NOROOT and NO_CAP_AMBIENT_RAISE are set, NO_SETUID_FIXUP and KEEP_CAPS are not, all four are locked."""
_CAPABILITY_VERSION_3 = 0x20080522
_KERNEL_LOG_SIZE = 1 << 18
_POWER_OFF = 0x4321_FEDC
_RESTART = 0x0123_4567
_FINIT_MODULE = {"x86_64": 313, "aarch64": 273}

_TIMEX = struct.Struct("=I4x 4q i4x 3q 2q q 2q i4x 5q i44x")
"""struct timex: modes; offset, freq, maxerror, esterror; status; constant, precision, tolerance; time (seconds and the
rest); tick; ppsfreq, jitter; shift; stabil, jitcnt, calcnt, errcnt, stbcnt; tai.
"""
_ADJ_OFFSET, _ADJ_MAXERROR, _ADJ_ESTERROR, _ADJ_STATUS = 0x1, 0x4, 0x8, 0x10
_ADJ_TIMECONST, _ADJ_SETOFFSET, _ADJ_NANO = 0x20, 0x100, 0x2000
_STEER = _ADJ_OFFSET | _ADJ_MAXERROR | _ADJ_ESTERROR | _ADJ_STATUS | _ADJ_TIMECONST | _ADJ_NANO
_STA_PLL = 1
_TIME_CONSTANT = 3
"""Of the kernel's control loop: for a reading every 2 to the power of this, in seconds."""
_MAX_STEERED = 500_000_000
"""Nanoseconds that the kernel steers away at most."""
_MADV_POPULATE_WRITE = 23

_library: Any = None


def _libc() -> Any:
    global _library
    if _library is None:
        import ctypes

        _library = ctypes.CDLL(None, use_errno=True)
    return _library


def load() -> None:
    """Loads ctypes now, for this process and its forks."""
    _libc()


def _check(result: int, what: str) -> None:
    if result < 0:
        import ctypes

        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)


def _pointer(data: bytes) -> Any:
    """A copy that the kernel may write to."""
    import ctypes

    # an array has a type for each size
    return ctypes.byref(ctypes.c_char.from_buffer(bytearray(data)))


def mount(source: str, target: str, filesystem: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError naming the target."""
    result = _libc().mount(
        source.encode(),
        target.encode(),
        filesystem.encode(),
        flags,
        options.encode() if options else None,
    )
    _check(result, target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc().umount2(target.encode(), flags), target)


def syncfs(fd: int) -> None:
    """Writes back the file system `fd` lies on."""
    _check(_libc().syncfs(fd), "syncfs")


def swapon(device: str) -> None:
    """swapon(2)."""
    _check(_libc().swapon(device.encode(), 0), device)


def klogctl(action: int, buffer: Any = None, size: int = 0) -> int:
    """klogctl(3). Best effort."""
    result: int = _libc().klogctl(action, buffer, size)
    return max(0, result)


def kernel_log() -> bytes:
    """The end of what the kernel has logged so far."""
    import ctypes

    buffer = ctypes.create_string_buffer(_KERNEL_LOG_SIZE)
    size = klogctl(SYSLOG_READ_ALL, buffer, _KERNEL_LOG_SIZE)
    return buffer.raw[:size]


def populate(address: int, size: int) -> None:
    """madvise(2): has pages there that can be written to without a fault. Raises OSError."""
    import ctypes

    place = ctypes.c_void_p(address)
    _check(_libc().madvise(place, ctypes.c_size_t(size), _MADV_POPULATE_WRITE), "madvise")


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    _check(_libc().sethostname(name.encode(), len(name)), "sethostname")


def step_clock(offset: int, error: int) -> None:
    """Sets CLOCK_REALTIME forward by `offset` nanoseconds (back if negative), right to `error` nanoseconds.

    Raises OSError.
    """
    _adjtimex(_STEER | _ADJ_SETOFFSET, 0, error, offset)


def steer_clock(offset: int, error: int) -> None:
    """Has the kernel's control loop speed the clocks up, or slow them down, until `offset` nanoseconds are made up for.

    Raises OSError.
    """
    _adjtimex(_STEER, max(-_MAX_STEERED, min(offset, _MAX_STEERED)), error, 0)


def _adjtimex(modes: int, offset: int, error: int, step: int) -> None:
    """adjtimex(2)."""
    seconds, rest = divmod(step, 1_000_000_000)
    micros = error // 1000
    errors = (micros, micros)
    zeros = (0,) * 10
    timex = _TIMEX.pack(
        modes, offset, 0, *errors, _STA_PLL, _TIME_CONSTANT, 0, 0, seconds, rest, *zeros
    )
    _check(_libc().adjtimex(_pointer(timex)), "adjtimex")


def power_off() -> NoReturn:
    """Stops the machine; where that is not possible, restarts it."""
    os.sync()
    while True:
        _libc().reboot(_POWER_OFF)
        _libc().reboot(_RESTART)


def load_modules(list_path: str) -> None:
    """Loads the kernel modules a file names, one a line in load order; those that are loaded already count as done.

    Only the first call for a file does anything. Raises OSError.
    """
    if list_path in _loaded:
        return
    for path in read_text(list_path).split():
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc().syscall(_FINIT_MODULE[os.uname().machine], fd, b"", 0), path)
        except FileExistsError:
            pass
        finally:
            os.close(fd)
    _loaded.add(list_path)


_loaded: set[str] = set()


def forbid_capabilities() -> None:
    """No program that this process or its children execute gets any capability, whoever runs it. Raises OSError."""
    last = int(read_text("/proc/sys/kernel/cap_last_cap"))
    _prctl(_PR_SET_SECUREBITS, _SECUREBITS)
    for capability in range(last + 1):
        _prctl(_PR_CAPBSET_DROP, capability)


def clear_capabilities() -> None:
    """Gives up every capability this process has. Raises OSError."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4)
    _check(_libc().capset(header, bytes(24)), "capset")


def set_no_new_privileges() -> None:
    """From now on exec gives no rights: set-user-ID bits and file capabilities do not count."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_dumpable() -> None:
    """Undoes what a change of the user has done: core dumps are written, /proc/self belongs to the user."""
    _prctl(_PR_SET_DUMPABLE, 1)


def _prctl(option: int, value: int) -> None:
    _check(_libc().prctl(option, value, 0, 0, 0), "prctl")
