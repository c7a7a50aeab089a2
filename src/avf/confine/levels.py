"""How tightly this host lets us confine a program: found out by doing it, since settings prove nothing."""

import functools
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from avf import facts, settings
from avf.causes import words
from avf.confine.box import IMAGES, LENT, Box, ConfinementError, Filter, Limits
from avf.confine.limited import limited_command
from avf.confine.needs import needs_of

VARIABLE = "AVF_CONFINEMENT"
_SHELL = "/bin/sh"
_SECONDS = 10.0
_MAX_WORDS = 300
_KERNEL = Path("/proc/sys")
_APPARMOR_PROFILE = (
    "printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile bwrap /usr/bin/bwrap flags=(unconfined) {\\n"
    "  userns,\\n}\\n' | sudo tee /etc/apparmor.d/bwrap && sudo apparmor_parser -r /etc/apparmor.d/bwrap"
)


class Level(Enum):
    """What stands between a virtual machine monitor that its guest has taken over and its user."""

    FULL = "full"
    """Namespaces of its own, an empty root, no capability, a system call filter."""
    LIMITED = "limited"
    """No namespaces: Landlock where the kernel has it, and a system call filter."""
    NONE = "none"
    """Only the limits and what the program does itself."""


@dataclass(frozen=True, slots=True)
class ConfinementReport:
    """How well programs that face a guest can be confined on this host, and why."""

    level: Level
    reason: str
    """Why this level and no higher one, for people."""
    fix: str | None = None
    """A command or a sentence that leads to a higher one."""

    def __str__(self) -> str:
        return f"{self.level.value} ({self.reason})"


def image_folder() -> str:
    """The folder in which a confined program finds each of its `Box.images`, by descriptor number.

    Raises ConfinementError as `explain_confinement` does.
    """
    return IMAGES if explain_confinement().level is Level.FULL else "/proc/self/fd"


def lent_folder() -> str:
    """The folder in which a confined program finds each of its `Box.lent`, by descriptor number.

    Raises ConfinementError as `explain_confinement` does.
    """
    return LENT if explain_confinement().level is Level.FULL else "/proc/self/fd"


@functools.cache
def explain_confinement() -> ConfinementReport:
    """The level for what is started from now on, and why.

    `AVF_CONFINEMENT`: `required` refuses less than full, `limited` and `none` ask for less. That full confinement
    works is remembered until the next boot; that it does not is found out again by each process.
    Raises ConfinementError for another value, and if less is possible than is required.
    """
    try:
        wanted = settings.confinement()
    except settings.SettingError as error:
        raise ConfinementError(str(error)) from None
    if wanted == "none":
        return ConfinementReport(Level.NONE, f"{VARIABLE} says so", f"unset {VARIABLE}")
    if wanted == "limited":
        return _limited(f"{VARIABLE} says so", f"unset {VARIABLE}")
    try:
        _prove_full()
    except ConfinementError as error:
        report = _limited(str(error), _fix())
        if wanted == "required":
            raise ConfinementError(
                f"{VARIABLE}=required, but confinement is {report}; fix: {report.fix}"
            ) from error
        return report
    return ConfinementReport(Level.FULL, "a program ran in a sandbox of bubblewrap's")


def _limited(reason: str, fix: str | None) -> ConfinementReport:
    try:
        _run_limited(probe_box())
    except ConfinementError as error:
        return ConfinementReport(Level.NONE, f"{reason}; {error}", fix)
    from avf.confine import landlock

    kernel = "with" if landlock.version() else "without"
    return ConfinementReport(Level.LIMITED, f"{reason}; {kernel} Landlock", fix)


def probe_box() -> Box:
    """The sandbox in which the probe runs a shell."""
    return Box(Filter.OPEN, Limits(64, 1 << 20), tuple(needs_of(_SHELL)))


def _prove_full() -> None:
    """Raises ConfinementError, in bubblewrap's words if it has any."""
    program = shutil.which("bwrap")
    if program is None:
        raise ConfinementError("bubblewrap is not installed")
    status = Path(program).stat()
    key = f"bwrap:{program}:{status.st_ino}:{status.st_mtime_ns}:{os.geteuid()}"
    if facts.recall(key) is True:
        return
    from avf.confine.bubblewrap import full_command

    with ExitStack() as stack:
        info = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        stack.callback(os.close, info)
        try:
            command, fds = full_command(probe_box(), [_SHELL, "-c", ":"], info, stack, stack, stack)
        except OSError as error:
            raise ConfinementError(f"no namespaces: {words(error)}") from error
        _run(command, fds, "bubblewrap")
    facts.remember(key, True)


def _run_limited(box: Box) -> None:
    _run(limited_command(box, [_SHELL, "-c", ":"]), [], "the launcher")


def _run(command: Sequence[str], fds: Sequence[int], what: str) -> None:
    import subprocess  # slow to import, and needed once per boot

    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            pass_fds=fds,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfinementError(f"{what} does not run: {words(error)}") from error
    if result.returncode:
        said = result.stderr.strip()[-_MAX_WORDS:] or f"status {result.returncode}"
        raise ConfinementError(f"{what} failed: {said}")


def _fix() -> str:
    """What most likely keeps bubblewrap from working here."""
    if shutil.which("bwrap") is None:
        return "sudo apt-get install bubblewrap"
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return _APPARMOR_PROFILE
    if _setting("kernel/unprivileged_userns_clone") == "0":
        return "sudo sysctl kernel.unprivileged_userns_clone=1"
    if _setting("user/max_user_namespaces") == "0":
        return "sudo sysctl user.max_user_namespaces=15000"
    return "if this is a container, let it make user namespaces (for Docker: --security-opt seccomp=unconfined)"


def _setting(name: str) -> str | None:
    try:
        return (_KERNEL / name).read_text().strip()
    except OSError:
        return None
