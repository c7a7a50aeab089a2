"""What the permission annotations demand of a caller."""

from collections.abc import Mapping
from dataclasses import dataclass

from .model import Constant

Annotations = Mapping[str, Mapping[str, Constant]]

ANNOTATIONS = ("EnforcePermission", "PermissionManuallyEnforced", "RequiresNoPermission")
"""An interface or a method has at most one of them, and a method none if its interface has one."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The permissions a caller needs: all in `all_of`, and one in `any_of` if there are any."""

    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()


def marks(annotations: Annotations) -> list[str]:
    """The permission annotations among these."""
    return [name for name in ANNOTATIONS if name in annotations]


def demand(annotations: Annotations) -> Demand:
    """What is demanded. Raises ValueError if that cannot be told."""
    found = marks(annotations)
    if len(found) > 1:
        raise ValueError(f"@{found[0]} and @{found[1]} exclude each other")
    if found != ["EnforcePermission"]:
        return Demand()
    arguments = annotations["EnforcePermission"]
    if len(arguments) != 1:
        raise ValueError("@EnforcePermission needs one of a permission, anyOf and allOf")
    ((name, value),) = arguments.items()
    names = tuple(str(item) for item in value) if isinstance(value, list) else (str(value),)
    if not names or not all(names):
        raise ValueError("@EnforcePermission names no permission")
    return Demand(any_of=names) if name == "anyOf" else Demand(all_of=names)
