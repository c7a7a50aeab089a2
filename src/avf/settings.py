"""The settings of AVF: environment variables, read and checked here and nowhere else.

Each has a function that gives its value, or None if the variable is unset or empty, and raises SettingError for a value
that it cannot have. `check` looks at all of them at once, as programs do when they start.
"""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

PREFIX = "AVF_"
T = TypeVar("T", bound=str)


class SettingError(ValueError):
    """A variable has a value that it cannot have; the message has both, and what is allowed."""


class SettingWarning(UserWarning):
    """A variable looks like a setting of AVF and is none."""


def accelerator() -> Literal["kvm", "tcg"] | None:
    """What runs a guest's instructions."""
    return _one_of("AVF_ACCEL", "kvm", "tcg")


def confinement() -> Literal["required", "limited", "none"] | None:
    """How tightly the virtual machine monitor must be confined, or how little is asked for."""
    return _one_of("AVF_CONFINEMENT", "required", "limited", "none")


def vsock() -> Literal["kernel", "user"] | None:
    """Who carries the vsock of guests."""
    return _one_of("AVF_VSOCK", "kernel", "user")


def vmm() -> Literal["qemu", "crosvm"] | None:
    """The virtual machine monitor."""
    return _one_of("AVF_VMM", "qemu", "crosvm")


def warm() -> Literal["on", "off"] | None:
    """Whether apps' VMs may begin as clones of templates. None: those that are emulated, which boot slowly."""
    return _one_of("AVF_WARM", "on", "off")


def pool() -> Path | None:
    """The socket of a `vm pool run`, whose virtmgr is used."""
    return _absolute_path("AVF_POOL")


def log_level() -> Literal["debug", "info", "warning", "error"] | None:
    """From which level on programs log; `debug` also shows where in the program an error came up."""
    return _one_of("AVF_LOG", "debug", "info", "warning", "error")


def boot_timeout() -> float | None:
    """Seconds in which a payload must have started."""
    if (text := _value("AVF_BOOT_TIMEOUT")) is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise _wrong("AVF_BOOT_TIMEOUT", text, "a positive number of seconds")
    return seconds


def image_dir() -> Path | None:
    """The folder with the guest image."""
    return _path("AVF_IMAGE_DIR")


def runtime_dir() -> Path | None:
    """The folder for sockets and VM directories."""
    return _absolute_path("AVF_RUNTIME_DIR")


def service_socket() -> Path | None:
    """The socket of the virtualizationservice to use."""
    return _absolute_path("AVF_SERVICE_SOCKET")


def task_profiles() -> Path | None:
    """The file that says what task profiles stand for."""
    return _path("AVF_TASK_PROFILES")


def apex_info() -> Path | None:
    """The host's list of APEXes."""
    return _path("AVF_APEX_INFO")


def staged_apex_info() -> Path | None:
    """The host's list of APEXes that become active with the next boot."""
    return _path("AVF_STAGED_APEX_INFO")


def qemu() -> str | None:
    """The QEMU program: a path, or a name to be found in $PATH."""
    return _value("AVF_QEMU")


def crosvm() -> str | None:
    """The crosvm program, likewise."""
    return _value("AVF_CROSVM")


def virtmgr() -> list[str] | None:
    """The command that starts virtmgr, as a shell splits it into words."""
    if (text := _value("AVF_VIRTMGR")) is None:
        return None
    import shlex

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _wrong("AVF_VIRTMGR", text, f"a command as a shell takes it ({error})") from None
    if not words:
        raise _wrong("AVF_VIRTMGR", text, "a command")
    return words


_READERS: dict[str, Callable[[], object]] = {
    "AVF_ACCEL": accelerator,
    "AVF_APEX_INFO": apex_info,
    "AVF_BOOT_TIMEOUT": boot_timeout,
    "AVF_CONFINEMENT": confinement,
    "AVF_CROSVM": crosvm,
    "AVF_IMAGE_DIR": image_dir,
    "AVF_LOG": log_level,
    "AVF_POOL": pool,
    "AVF_QEMU": qemu,
    "AVF_RUNTIME_DIR": runtime_dir,
    "AVF_SERVICE_SOCKET": service_socket,
    "AVF_STAGED_APEX_INFO": staged_apex_info,
    "AVF_TASK_PROFILES": task_profiles,
    "AVF_VIRTMGR": virtmgr,
    "AVF_VMM": vmm,
    "AVF_VSOCK": vsock,
    "AVF_WARM": warm,
}
NAMES = frozenset(_READERS)
"""The variables that mean something."""


def check() -> None:
    """Raises SettingError if a variable has a value that it cannot have."""
    for read in _READERS.values():
        read()


def unknown(environment: Mapping[str, str] | None = None) -> list[str]:
    """A warning for each variable that looks like a setting and is none."""
    names = os.environ if environment is None else environment
    return [
        _unknown(name) for name in sorted(names) if name.startswith(PREFIX) and name not in NAMES
    ]


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, sorted(NAMES), 1, 0.75)
    question = f"; did you mean {near[0]}?" if near else ""
    return f"{name} is no setting of AVF and is ignored{question}"


def _value(name: str) -> str | None:
    return os.environ.get(name) or None


def _one_of(name: str, *allowed: T) -> T | None:
    value = _value(name)
    if value is None:
        return None
    for choice in allowed:
        if value == choice:
            return choice
    raise _wrong(name, value, f"{', '.join(allowed[:-1])} or {allowed[-1]}")


def _path(name: str) -> Path | None:
    value = _value(name)
    return None if value is None else Path(value)


def _absolute_path(name: str) -> Path | None:
    """Programs with different working directories must mean the same."""
    value = _value(name)
    if value is not None and not value.startswith("/"):
        raise _wrong(name, value, "an absolute path")
    return _path(name)


def _wrong(name: str, value: str, allowed: str) -> SettingError:
    return SettingError(f"{name} is {value[:200]!r}; it must be {allowed}")
