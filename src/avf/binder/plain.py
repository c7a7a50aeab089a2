"""Values as what Python and JSON have of their own, and back: `to_dict` and `from_dict`."""

import types
import typing
from collections.abc import Callable
from typing import Annotated, Any


def to_plain(value: Any) -> Any:
    """Parcelables and unions become dicts, also in lists; everything else stays as it is."""
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    make = getattr(value, "to_dict", None)
    return value if make is None else make()


def from_plain(annotation: Any, value: Any, where: str) -> Any:
    """A value of the annotated type. Raises TypeError that begins with `where`."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return from_plain(annotation.__origin__, value, where)
    if origin is types.UnionType or origin is typing.Union:
        inner = next(part for part in typing.get_args(annotation) if part is not type(None))
        return None if value is None else from_plain(inner, value, where)
    if origin is list:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{where}: list wanted, not {type(value).__name__}")
        (item,) = typing.get_args(annotation)
        return [from_plain(item, part, f"{where}[{index}]") for index, part in enumerate(value)]
    make: Callable[[Any, str], Any] | None = getattr(annotation, "_from_plain", None)
    return value if make is None else make(value, where)
