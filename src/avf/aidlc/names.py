"""How AIDL's names are called in Python.

What a type's Python looks like depends on the type alone: everything it declares is inside of its class, and a name
that is taken there already, by Python or by what is declared before, gives way by a fixed rule.
"""

import keyword
import re
from collections.abc import Iterable

from . import tree
from .model import ArgumentDef

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])(?![A-Z]s(?![a-z]))")

_TYPE_NAMES = frozenset({"bool", "bytes", "float", "int", "list", "str", "tuple"})
"""What annotations are made of: a class body must not give these another meaning."""
_VALUE_NAMES = _TYPE_NAMES | {"field", "from_dict", "overload", "self", "to_dict"}
_METHOD_NAMES = _TYPE_NAMES | {
    "abstractmethod",
    "dump",
    "has_permission",
    "method",
    "on_released",
}
_UNION_NAMES = _VALUE_NAMES | {"value", "which"}
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


def snake_case(name: str) -> str:
    """`getVmCID` is `get_vm_cid`."""
    return _WORD_START.sub("_", name).lower()


def _apart(name: str, taken: Iterable[str] = ()) -> str:
    """With an underscore behind it, if Python or the class around has another use for the name."""
    return f"{name}_" if keyword.iskeyword(name) or name in taken else name


def _public(name: str) -> str:
    """Names that begin with an underscore have a meaning of their own in Python classes."""
    if not name.startswith("_"):
        return name
    rest = name.lstrip("_")
    return rest if rest and not rest[0].isdigit() else f"u_{rest}"


def argument_name(name: str) -> str:
    """Of an argument, unless another one before it is called alike."""
    return _apart(_public(snake_case(name)), ("self",))


def class_name(name: str) -> str:
    """Of a type by its simple AIDL name."""
    return _apart(_public(name))


def _distinct(
    names: Iterable[str], reserved: frozenset[str], taken: set[str], snake: bool = True
) -> dict[str, str]:
    """Python's names by AIDL's, in the order of declaration.

    The first of several that would be called alike is; a later one keeps its spelling in AIDL, with underscores behind
    it if even that is taken. So a name does not change when others are added after it.
    """
    found: dict[str, str] = {}
    for name in names:
        if name in found:
            continue
        wish = _apart(_public(snake_case(name) if snake else name), reserved)
        if wish in taken:
            wish = _apart(_public(name), reserved)
        while wish in taken:
            wish += "_"
        taken.add(wish)
        found[name] = wish
    return found


class ClassNames:
    """The names in one type's class: of nested types, constants, and members.

    `members` are a parcelable's fields, a union's members, an enum's enumerators, or an interface's methods.
    """

    def __init__(self, declaration: tree.Declaration) -> None:
        taken = {class_name(nested.name.text) for nested in declaration.nested}
        reserved, members = _members(declaration)
        if isinstance(declaration, tree.UnionDecl):
            taken.add("Tag")
        constants = (constant.name.text for constant in declaration.constants)
        self.constants = _distinct(constants, reserved, taken, snake=False)
        snake = not isinstance(declaration, tree.EnumDecl)
        self.members = _distinct(members, reserved, taken, snake)


def _members(declaration: tree.Declaration) -> tuple[frozenset[str], list[str]]:
    if isinstance(declaration, tree.EnumDecl):
        return _ENUMERATOR_NAMES, [part.name.text for part in declaration.enumerators]
    if isinstance(declaration, tree.InterfaceDecl):
        return _METHOD_NAMES, [part.name.text for part in declaration.methods]
    if isinstance(declaration, tree.UnionDecl):
        return _UNION_NAMES, [part.name.text for part in declaration.fields]
    if isinstance(declaration, tree.ParcelableDecl):
        return _VALUE_NAMES, [part.name.text for part in declaration.fields]
    return frozenset(), []


def argument_names(arguments: Iterable[ArgumentDef]) -> dict[str, str]:
    """Of one method, by their names in AIDL; an out array's is that of the parameter that tells its length."""
    arguments = list(arguments)
    taken = {"self"}
    ingoing = [part.name for part in arguments if part.direction is not tree.Direction.OUT]
    found = _distinct(ingoing, frozenset({"self"}), taken)
    for part in arguments:
        if part.direction is tree.Direction.OUT:
            wish = f"{snake_case(part.name).strip('_')}_length"
            while wish in taken:
                wish += "_"
            taken.add(wish)
            found[part.name] = wish
    return found
