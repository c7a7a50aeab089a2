"""What to run: the payload's JSON configuration, or the explicit one that only names a binary."""

from enum import Enum
from typing import Any

from avf.guest.errors import InvalidConfig
from avf.named import NamedTuple

MAX_SIZE = 1 << 20


class TaskType(Enum):
    """How a task's command is meant."""

    EXECUTABLE = "executable"
    LAUNCHER = "microdroid_launcher"


class Task(NamedTuple):
    """What is run in the end. `run_as_root`: not as the payload's user; only a debuggable guest does that."""

    type: TaskType
    command: str
    run_as_root: bool = False


class PayloadConfig(NamedTuple):
    """`export_tombstones` None: as debuggable as the guest."""

    task: Task | None
    extra_apks: int
    export_tombstones: bool | None
    enable_authfs: bool


def explicit_config(binary_name: str, extra_apks: int) -> PayloadConfig:
    """The configuration of a payload that is just a binary."""
    return PayloadConfig(Task(TaskType.LAUNCHER, binary_name), extra_apks, None, False)


def parse_config(data: bytes) -> PayloadConfig:
    """Unknown keys are ignored. Raises InvalidConfig naming the field.

    What the host accepts means the same here: JSON as in RFC 8259, in UTF-8, the last of two equal keys.
    """
    import json

    if len(data) > MAX_SIZE:
        raise InvalidConfig(f"the VM config is longer than {MAX_SIZE} bytes")
    try:
        # No field is a number, and one that nobody asks for may have any length.
        document = json.loads(data.decode(), parse_int=float, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"the VM config is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidConfig("the VM config is not a JSON object")
    extra_apks = _typed(document, "extra_apks", list, [])
    for extra in extra_apks:
        _typed(extra if isinstance(extra, dict) else {}, "path", str)
    return PayloadConfig(
        _task(_typed(document, "task", dict, None)),
        len(extra_apks),
        _typed(document, "export_tombstones", bool, None),
        _typed(document, "enable_authfs", bool, False),
    )


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no value")


_REQUIRED = object()


def _typed(document: dict[str, Any], key: str, wanted: type, default: Any = _REQUIRED) -> Any:
    value = document.get(key, default)
    if value is _REQUIRED:
        raise InvalidConfig(f"VM config: {key} is missing")
    if value is None and default is None:
        return None
    if not isinstance(value, wanted):
        raise InvalidConfig(f"VM config: {key} is not of type {wanted.__name__}")
    if isinstance(value, str):
        _check_text(key, value)
    return value


def _check_text(key: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidConfig(f"VM config: {key} is not Unicode") from None


def _task(document: dict[str, Any] | None) -> Task | None:
    if document is None:
        return None
    name = _typed(document, "type", str, TaskType.EXECUTABLE.value)
    try:
        kind = TaskType(name)
    except ValueError:
        raise InvalidConfig(f"VM config: unknown task type {name!r}") from None
    command = _typed(document, "command", str)
    return Task(kind, command, _typed(document, "run_as_root", bool, False))
