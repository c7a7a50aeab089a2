"""What parcelables and unions have in common: types and defaults of members, and bodies, built when first needed."""

import builtins
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .codec import Reader, Writer

_T = TypeVar("_T")
_NULLABLE = " | None"

if TYPE_CHECKING:
    from inspect import Signature


def own_annotations(namespace: dict[str, Any]) -> dict[str, Any]:
    """The annotations in a class body; Python 3.14 keeps them as a function."""
    found: dict[str, Any] | None = namespace.get("__annotations__")
    if found is None and (annotate := namespace.get("__annotate_func__")) is not None:
        found = annotate(1)
    return found or {}


def resolve(annotation: object, module: str) -> object:
    """The type an annotation means; strings are expressions in the defining module."""
    if not isinstance(annotation, str):
        return annotation
    return _evaluated(annotation, vars(sys.modules[module]))


def _evaluated(text: str, names: dict[str, Any]) -> Any:
    """What an expression means in a module. Raises as `eval` does.

    What AIDL types are spelled like is taken apart here: loading Python's compiler takes a guest longer than all of it.
    """
    if text in names:
        return names[text]
    if text.isidentifier() and hasattr(builtins, text):
        return getattr(builtins, text)
    if text.endswith(_NULLABLE):
        return _evaluated(text.removesuffix(_NULLABLE), names) | None
    generic, _, inner = text.removesuffix("]").partition("[")
    if text == f"{generic}[{inner}]" and generic.isidentifier() and inner.isidentifier():
        return _evaluated(generic, names)[_evaluated(inner, names)]
    return eval(text, names)


class Required:
    """The default of a field that has none."""


class Factory:
    """A default that is made anew each time."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, factory: Callable[[], _T]) -> _T:
    """A default of a parcelable's field: what `factory` returns, called each time one is needed."""
    return Factory(factory)  # type: ignore[return-value]


def signature(types: Mapping[str, Any], default_of: Callable[[str], Any] | None) -> "Signature":
    """Keyword parameters with these annotations; none is required if nothing tells defaults."""
    from inspect import Parameter, Signature  # slow to import, and nothing else needs it

    made = []
    for name, annotation in types.items():
        default = ... if default_of is None else default_of(name)
        default = Parameter.empty if default is Required else default
        kind = Parameter.KEYWORD_ONLY
        made.append(Parameter(name, kind, default=default, annotation=annotation))
    return Signature(made)


def made_of(default: Any) -> Any:
    """A value of a field that is not given."""
    return default.make() if type(default) is Factory else fresh(default)


def fresh(default: Any) -> Any:
    """A copy of a default, where it can be changed."""
    if type(default) is list:
        return [fresh(item) for item in default]
    copier = getattr(default, "_fresh_copy", None)
    return default if copier is None else copier()


def items_of(cls: type[Any], value: Any, where: str) -> list[tuple[str, object, Any]]:
    """Name, type and value of what a mapping gives a class."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{where}: dict wanted, not {type(value).__name__}")
    unknown = [str(name) for name in value if name not in cls._types]
    if unknown:
        raise TypeError(f"{where}: {cls.__name__} has no {', '.join(unknown)}")
    module = cls.__module__
    return [(name, resolve(cls._types[name], module), item) for name, item in value.items()]


def body_of(cls: type[Any]) -> tuple[Writer, Reader]:
    """How a parcelable's or union's body is written and read.

    It is built when first needed: its fields may be of its own type.
    """
    made: tuple[Writer, Reader] | None = vars(cls).get("_body_made")
    if made is None:
        made = cls._body_made = cls._make_body()
    return made
