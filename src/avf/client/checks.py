"""Whether the fields of a configuration are of their types; errors name the field and what it was given."""

import os
from collections.abc import Mapping, Sequence
from enum import Enum

from avf.client.errors import ConfigError

_MAX_SHOWN = 100


def check_text(field: str, value: object, *, optional: bool = False) -> None:
    """Raises ConfigError."""
    if isinstance(value, str):
        if "\0" in value:
            raise ConfigError(f"{field} must not have a NUL character in it")
    elif not (optional and value is None):
        raise _wrong(field, value, "text")


def check_flag(field: str, value: object) -> None:
    """Raises ConfigError."""
    if not isinstance(value, bool):
        raise _wrong(field, value, "True or False")


def check_number(
    field: str, value: object, least: int, most: int, unit: str = "", *, optional: bool = False
) -> None:
    """Raises ConfigError. `unit`: with a leading space."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(field, value, f"a whole number{unit} from {least} to {most}")


def check_member(field: str, value: object, kind: type[Enum]) -> None:
    """Raises ConfigError."""
    if not isinstance(value, kind):
        names = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
        raise _wrong(field, value, f"one of {names}")


def check_source(field: str, value: object, *, optional: bool = False) -> None:
    """A path or an open file. Raises ConfigError."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not (
        isinstance(value, (str, os.PathLike, int)) or callable(getattr(value, "fileno", None))
    ):
        raise _wrong(field, value, "a path or an open file")
    if value == "":
        raise _wrong(field, value, "a path or an open file, not an empty text")


def check_sequence(field: str, value: object) -> None:
    """A list or a tuple of anything: a text is none, though its characters could be counted. Raises ConfigError."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise _wrong(field, value, "a list")


def check_mapping(field: str, value: object) -> None:
    """A dict of anything. Raises ConfigError."""
    if not isinstance(value, Mapping):
        raise _wrong(field, value, "a dict")


def _wrong(field: str, value: object, wanted: str) -> ConfigError:
    shown = repr(value)
    if len(shown) > _MAX_SHOWN:
        shown = f"{shown[:_MAX_SHOWN]}..."
    return ConfigError(f"{field} must be {wanted}, not {shown}")
