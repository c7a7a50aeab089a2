"""How AIDL's names are called in Python."""

import keyword
import re
from collections import Counter
from collections.abc import Iterable

from . import tree
from .model import TypeDef

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])(?![A-Z]s(?![a-z]))")

_TYPE_NAMES = frozenset({"bool", "bytes", "float", "int", "list", "str", "tuple"})
"""What annotations are made of: a class body must not give these another meaning."""
_METHOD_NAMES = _TYPE_NAMES | {"dump", "has_permission", "method", "on_released"}
_UNION_NAMES = _TYPE_NAMES | {"value", "which"}
_INT_NAMES = frozenset(
    {
        "as_integer_ratio",
        "bit_count",
        "bit_length",
        "conjugate",
        "denominator",
        "from_bytes",
        "imag",
        "is_integer",
        "numerator",
        "real",
        "to_bytes",
    }
)
_ENUMERATOR_NAMES = _INT_NAMES | {"mro", "name", "value"}
_CONSTANT_NAMES = _TYPE_NAMES | {"range"}


def snake_case(name: str) -> str:
    """`getVmCID` is `get_vm_cid`."""
    return _WORD_START.sub("_", name).lower()


def _apart(name: str, taken: Iterable[str] = ()) -> str:
    """With an underscore behind it, if Python or the class around has another use for the name."""
    return f"{name}_" if keyword.iskeyword(name) or name in taken else name


def method_name(name: str) -> str:
    return _apart(_public(snake_case(name)), _METHOD_NAMES)


def field_name(name: str) -> str:
    return _apart(_public(snake_case(name)), _TYPE_NAMES)


def member_name(name: str) -> str:
    """Of a union."""
    return _apart(_public(snake_case(name)), _UNION_NAMES)


def argument_name(name: str) -> str:
    return _apart(_public(snake_case(name)), ("self",))


def enumerator_name(name: str) -> str:
    return _apart(_public(name), _ENUMERATOR_NAMES)


def _public(name: str) -> str:
    """Names that begin with an underscore have a meaning of their own in Python classes."""
    if not name.startswith("_"):
        return name
    rest = name.lstrip("_")
    return rest if rest and not rest[0].isdigit() else f"u_{rest}"


class PackageNames:
    """The names one package's types and constants have in its module, where nothing is nested.

    A nested type is called by its own name while nothing else in the package is, else by its whole path; a constant
    likewise. So the names depend on the whole package, not on which of its files are compiled.
    """

    def __init__(self, documents: Iterable[tree.Document]) -> None:
        self._count: Counter[str] = Counter()
        for document in documents:
            for declaration in document.declarations:
                self._add(declaration)

    def _add(self, declaration: tree.Declaration) -> None:
        if isinstance(declaration, tree.ForwardDecl):
            return
        self._count[declaration.name.text] += 1
        for constant in declaration.constants:
            self._count[constant.name.text] += 1
        for nested in declaration.nested:
            self._add(nested)

    def type_name(self, type_def: TypeDef) -> str:
        parent = type_def.parent
        if parent is None:
            return _apart(type_def.simple)
        if type_def.tag_of is None and self._count[type_def.simple] <= 1:
            return _apart(type_def.simple)
        return f"{self.type_name(parent)}{type_def.simple}"

    def constant_name(self, owner: TypeDef, name: str) -> str:
        if self._count[name] <= 1:
            return _apart(_public(name), _CONSTANT_NAMES)
        return f"{self.type_name(owner)}_{name}"


def length_name(argument: str) -> str:
    """Of the parameter that tells how long an out array is."""
    return f"{argument.rstrip('_')}_length"
