"""What is to be written, and what can be said about it before a line is: modules, names, defaults."""

import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import tree
from .analysis import Analysis
from .docs import paragraphs
from .errors import AidlError, Diagnostic, Diagnostics
from .limits import EXPANSION, HOLDING_CHAIN
from .model import Builtin, Constant, Definition, EnumValue, FieldDef, Type, TypeDef
from .names import ClassNames, argument_name, class_name


@dataclass(frozen=True, slots=True)
class Modules:
    """Which Python package an AIDL package is.

    `mapped` and `external` take a package, or what several begin with, to the name in Python; external ones are there
    already. A package that neither names is called as in AIDL.
    """

    mapped: Mapping[str, str] = field(default_factory=dict)
    external: Mapping[str, str] = field(default_factory=dict)

    def module(self, package: str) -> str:
        """The Python package's name; parts that are Python keywords get a `_`."""
        found = self._find((self.external, self.mapped), package) or package
        return ".".join(f"{p}_" if keyword.iskeyword(p) else p for p in found.split("."))

    def is_external(self, package: str) -> bool:
        """Whether the Python package is there already, so that nothing is written for it."""
        return self._find((self.external,), package) is not None

    def _find(self, tables: tuple[Mapping[str, str], ...], package: str) -> str | None:
        prefix = package
        while prefix or not package:
            for table in tables:
                if prefix in table:
                    return table[prefix] + package[len(prefix) :]
            if not prefix:
                break
            prefix = prefix.rpartition(".")[0]
        return None


@dataclass(frozen=True, slots=True)
class Options:
    """`classes` names the Python classes of parcelables that have no fields in AIDL: "module.Class".

    `version` and `hash` are those of the interfaces in the given files; `known` tells them of modules of earlier runs.
    """

    modules: Modules = field(default_factory=Modules)
    classes: Mapping[str, str] = field(default_factory=dict)
    version: int = 0
    hash: str = ""
    known: Callable[[str], tuple[int, str]] = lambda module: (0, "")

    def is_given(self, type_def: TypeDef) -> bool:
        """Whether a type's Python class is there already."""
        return type_def.name in self.classes or self.modules.is_external(type_def.package)


class Plan:
    """What becomes of the types to write."""

    def __init__(
        self,
        roots: frozenset[TypeDef],
        analysis: Analysis,
        options: Options,
        diagnostics: Diagnostics,
    ) -> None:
        self.roots = roots
        self.options = options
        self.diagnostics = diagnostics
        self._names: dict[TypeDef, ClassNames] = {}
        self._analysis = analysis
        self._constructible: dict[TypeDef, bool | None] = {}
        self._held = 0
        self._heights: dict[TypeDef, int] = {}
        self._grown = 0

    # Names and modules

    def package(self, type_def: TypeDef) -> str:
        """The Python package of a type's AIDL package."""
        return self.options.modules.module(type_def.package)

    def module(self, type_def: TypeDef) -> str:
        """The module in which a type is written: that of the type around all others."""
        return f"{self.package(type_def)}._{class_name(type_def.outermost.simple)}"

    def given(self, type_def: TypeDef) -> tuple[str, str] | None:
        """The module and the name of a class that is not written, because there is one already."""
        if (text := self.options.classes.get(type_def.name)) is not None:
            module, _, name = text.rpartition(".")
            return module, name
        return None

    def name(self, type_def: TypeDef) -> str:
        """What its class is called in its module: `Outer.Inner` if it is nested."""
        own = class_name(type_def.simple)
        return own if type_def.parent is None else f"{self.name(type_def.parent)}.{own}"

    def names(self, type_def: TypeDef) -> ClassNames:
        """What is called how inside of its class."""
        if type_def not in self._names:
            self._names[type_def] = ClassNames(type_def.declaration)
        return self._names[type_def]

    def version(self, type_def: TypeDef) -> tuple[int, str]:
        """Version and hash of the type: those of this run for the given files, else those of an earlier run."""
        if type_def.outermost in self.roots:
            return self.options.version, self.options.hash
        return self.options.known(self.module(type_def))

    def words(self, type_def: TypeDef) -> dict[str, str]:
        """What AIDL and Python call otherwise in a type and what is nested in it, for documentation."""
        found: dict[str, str] = {}
        for nested in type_def.nested.values():
            found.update(self.words(nested))
        found.update(self.names(type_def).members)
        for method in self.definition(type_def).methods:
            found.update((part.name, argument_name(part.name)) for part in method.arguments)
        return found

    # Defaults

    def has_default(self, part: FieldDef) -> bool:
        """Whether a field need not be given."""
        return self._default_needs(part) is not None

    def _default_needs(self, part: FieldDef) -> set[TypeDef] | None:
        """The classes that a field's default is made of; None if it can have none."""
        return set(_enums(part.default)) if part.default is not None else self._needs(part.type)

    def _needs(self, found: Type) -> set[TypeDef] | None:
        if found.nullable or (found.is_array and found.dimensions[0] in (None, 0)):
            return set()
        if found.is_array:
            return self._needs(found.item())
        base = found.base
        if isinstance(base, Builtin):
            return None if base in _HANDED else set()
        if base.is_enum:
            return {base}
        return {base} if base.is_parcelable and self.constructible(base) else None

    def constructible(self, type_def: TypeDef) -> bool:
        """Whether a parcelable can be made of nothing. Reports one that would hold itself."""
        if isinstance(type_def.declaration, tree.ForwardDecl):
            return False
        known = self._constructible.get(type_def, False)
        if type_def in self._constructible:
            if known is None:
                message = (
                    f"{type_def.simple} holds itself without end; make a field @nullable or a List"
                )
                span = type_def.declaration.name.span
                self.diagnostics.error(message, type_def.source, span)
            return bool(known)
        self._constructible[type_def] = None
        self._held += 1
        fields = self._analysis.definition(type_def).fields
        if isinstance(type_def.declaration, tree.UnionDecl):
            fields = fields[:1]
        made = self._held <= HOLDING_CHAIN and self._hold(type_def, fields)
        self._held -= 1
        if max(self._held, self._heights.get(type_def, 0)) >= HOLDING_CHAIN:
            message = f"{type_def.simple} is in a chain of more than {HOLDING_CHAIN} types that hold one another"
            span = type_def.declaration.name.span
            self.diagnostics.error(message, type_def.source, span)
            self.diagnostics.check()  # those around it would be told, too
        self._constructible[type_def] = made
        return made

    def _hold(self, type_def: TypeDef, fields: list[FieldDef]) -> bool:
        """Whether all fields have defaults; notes how many types one inside the other these hold."""
        height = 0
        made = True
        for part in fields:  # all of them, so that none that holds this type is missed
            needs = self._default_needs(part)
            made = made and needs is not None
            height = max([height, *(self._heights.get(held, 0) for held in needs or ())])
        self._heights[type_def] = height + 1
        return made

    def grow(self, text: str) -> str:
        """Counts the text of a default value, which types that are used again and again may make long.

        Raises AidlError if all of them are too long together.
        """
        self._grown += len(text)
        if self._grown > EXPANSION:
            message = f"default values grow to more than {EXPANSION} characters in all"
            raise AidlError([Diagnostic(message)])
        return text

    # What the files say

    def definition(self, type_def: TypeDef) -> Definition:
        """Of types in other modules, too."""
        return self._analysis.definition(type_def)

    def file_doc(self, type_def: TypeDef) -> list[str]:
        """What stands before the package statement of a type's file."""
        return paragraphs(self._analysis.world.document(type_def.source).doc)


_HANDED = (Builtin.IBINDER, Builtin.PARCEL_FILE_DESCRIPTOR, Builtin.FILE_DESCRIPTOR)
"""What cannot be made of nothing."""


def _enums(value: Constant) -> set[TypeDef]:
    if isinstance(value, list):
        return {found for item in value for found in _enums(item)}
    return {value.type} if isinstance(value, EnumValue) else set()
