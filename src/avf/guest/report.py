"""The agent's words: its log, and the failure port from which the host learns why a guest died."""

import os
import time

FAILURE_PORT = "/dev/ttyS1"
_PIECE = 16
"""Longer writes have been seen to hang the emulated port (AVF's own agent does the same)."""
_MAX_FAILURE = 2048

_muted = False


def mute() -> None:
    """From now on `log` does nothing: nobody could read it."""
    global _muted
    _muted = True


def log(text: str) -> None:
    """One line to wherever the guest's init points stderr: the log port if debuggable, else nowhere."""
    if _muted:
        return
    line = f"[{time.monotonic():9.3f}] agent: {text}\n"
    try:
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def say(text: str) -> None:
    """One line to the payload's standard error: what its author has to know. Not one of the agent's own."""
    try:
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def report_failure(text: str, port: str = FAILURE_PORT) -> None:
    """Writes a failure reason to the port, opened anew for each piece. A missing port only costs a log line."""
    data = text.encode("utf-8", "backslashreplace")[:_MAX_FAILURE]
    try:
        for start in range(0, len(data), _PIECE):
            fd = os.open(port, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                os.write(fd, data[start : start + _PIECE])
            finally:
                os.close(fd)
    except OSError as error:
        log(f"cannot write to {port}: {error}")


def log_exception() -> None:
    """The traceback of the exception being handled, for people with a debuggable guest."""
    import traceback

    for line in traceback.format_exc().splitlines():
        log(line)
