"""`--detach`: a command that leaves its VM running. A process of its own stays with the VM, as its owner."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from avf.cli.text import CliError

F = TypeVar("F", bound=Callable[..., Any])
_LEFT = b"\0"
_PIPE = "avf.detach"
"""In a context's `meta`, in the process that stays: where it says that the payload has started."""


def detach_option(command: F) -> F:
    """Adds `-d`, for a command of the class PayloadCommand."""
    return click.option(
        "-d",
        "--detach",
        is_flag=True,
        help="Return as soon as the payload has started, and write the VM's CID; `vm stop` ends it.",
    )(command)


def stay_behind(ctx: click.Context) -> int | None:
    """Divides the process in two. The one that stays with the VM gets None and goes on, in a session of its own.

    The other waits until `leave` is called there, or until that process has ended, and gets its own exit status. If it
    is interrupted, it ends the first one.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(told)
        os.setsid()
        ctx.meta[_PIPE] = tell
        return None
    os.close(tell)
    try:
        with open(told, "rb", buffering=0) as pipe:
            left = pipe.read(1) == _LEFT
        return 0 if left else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise


class Leaver:
    """Of the process that stays: lets the other one return, once."""

    def __init__(self, tell: int) -> None:
        self._tell = tell

    def leave(self) -> None:
        """From now on standard streams lead nowhere. Ends this process in order if the other one is gone."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in range(3):
            os.dup2(nowhere, fd)
        os.close(nowhere)
        try:
            os.write(self._tell, _LEFT)
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGTERM)  # nobody has learnt of the VM
        os.close(self._tell)


def leaver(options: Mapping[str, object]) -> Leaver | None:
    """Of the command that runs, if it has been divided. Raises CliError for options that need somebody who stays."""
    ctx = click.get_current_context(silent=True)
    if ctx is None or (tell := ctx.meta.get(_PIPE)) is None:
        return None
    for name, given in (
        ("--kernel-log", options.get("kernel_log")),
        ("--timeline", options.get("timeline")),
        ("--console-in -", options.get("console_in") == "-"),
    ):
        if given:
            raise CliError(f"{name} does not go with --detach, which leaves the terminal")
    return Leaver(tell)
