"""Which options a crosvm takes: they differ between its releases, features and operating systems."""

import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from avf import facts
from avf.causes import words
from avf.vmm.base import VmmUnavailable

_TIMEOUT = 10.0
_MAX_HELP = 1 << 20
_OPTION = re.compile(r"^ {1,4}(?:-\w, )?--([a-z0-9][a-z0-9-]*)\b", re.MULTILINE)
_LEAST = ("serial", "socket", "disable-sandbox")
"""What every crosvm that can be worked with has."""


@dataclass(frozen=True, slots=True)
class Options:
    """The long names of the options of `crosvm run`, without their dashes."""

    names: frozenset[str]

    def __contains__(self, name: str) -> bool:
        return name in self.names


def options_of(program: str) -> Options:
    """What `run --help` tells, asked once per boot and version of the program. Raises VmmUnavailable."""
    try:
        status = Path(program).stat()
    except OSError as error:
        raise VmmUnavailable(f"{program} cannot be read: {error.strerror}") from error
    key = f"crosvm:{program}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    known = facts.recall(key)
    if isinstance(known, str) and known:
        return Options(frozenset(known.split()))
    options = parse_help(program, _help(program))
    facts.remember(key, " ".join(sorted(options.names)))
    return options


def parse_help(program: str, text: str) -> Options:
    """The options in the text of `run --help`. Raises VmmUnavailable if it is not crosvm's."""
    names = frozenset(_OPTION.findall(text))
    if missing := [name for name in _LEAST if name not in names]:
        raise VmmUnavailable(f"{program} is no crosvm: its run command has no --{missing[0]}")
    return Options(names)


def _help(program: str) -> str:
    try:
        result = subprocess.run(
            [program, "run", "--help"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise VmmUnavailable(f"{program} does not run: {words(error)}") from error
    if result.returncode < 0:
        raise VmmUnavailable(f"{program} does not run: it {ending(result.returncode)}")
    return result.stdout[:_MAX_HELP]


def ending(returncode: int) -> str:
    """How a program ended, for people."""
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with status {returncode}"
