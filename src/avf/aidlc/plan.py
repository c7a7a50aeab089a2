"""What is to be written, and what can be said about it before a line is: modules, names, defaults."""

import keyword
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from . import tree
from .analysis import Analysis
from .docs import paragraphs
from .errors import AidlError, Diagnostic, Diagnostics
from .limits import EXPANSION, HOLDING_CHAIN
from .model import Builtin, Constant, Definition, EnumValue, FieldDef, Type, TypeDef
from .names import PackageNames, argument_name, field_name, method_name


@dataclass(frozen=True, slots=True)
class Modules:
    """Which Python module an AIDL package is.

    `mapped` and `external` take a package, or what several begin with, to a module; external ones are there already.
    A package that neither names is the module of its own name.
    """

    mapped: Mapping[str, str] = field(default_factory=dict)
    external: Mapping[str, str] = field(default_factory=dict)

    def module(self, package: str) -> str:
        found = self._find((self.external, self.mapped), package) or package
        return ".".join(f"{p}_" if keyword.iskeyword(p) else p for p in found.split("."))

    def is_external(self, package: str) -> bool:
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
    """`classes` names the Python classes of parcelables that have no fields in AIDL: "module.Class"."""

    modules: Modules = field(default_factory=Modules)
    classes: Mapping[str, str] = field(default_factory=dict)
    version: int = 0
    hash: str = ""

    def is_given(self, type_def: TypeDef) -> bool:
        """Whether a type's Python class is there already."""
        return type_def.name in self.classes or self.modules.is_external(type_def.package)


class Plan:
    """The definitions to write, by type, and what they depend on."""

    def __init__(
        self,
        definitions: list[Definition],
        roots: frozenset[TypeDef],
        names: Mapping[str, PackageNames],
        analysis: Analysis,
        options: Options,
        diagnostics: Diagnostics,
    ) -> None:
        self.definitions = {definition.type: definition for definition in definitions}
        self.roots = roots
        self.options = options
        self.diagnostics = diagnostics
        self._names = names
        self._analysis = analysis
        self._constructible: dict[TypeDef, bool | None] = {}
        self._held = 0
        self._heights: dict[TypeDef, int] = {}
        self._grown = 0
        self._cycles = self._import_cycles()
        self.words = dict(word for made in definitions for word in _renamed(made))
        """What AIDL and Python call otherwise, for documentation."""

    # Names and modules

    def module(self, type_def: TypeDef) -> str:
        if type_def.name in self.options.classes:
            return self.options.classes[type_def.name].rpartition(".")[0]
        return self.options.modules.module(type_def.package)

    def name(self, type_def: TypeDef) -> str:
        """What its class is called in its module."""
        if type_def.name in self.options.classes:
            return self.options.classes[type_def.name].rpartition(".")[2]
        return self._names[type_def.package].type_name(type_def)

    def descriptor(self, type_def: TypeDef) -> str:
        """A parcelable's or union's full name in AIDL, which a ParcelableHolder asks for."""
        return type_def.name

    def constant_name(self, owner: TypeDef, name: str) -> str:
        return self._names[owner.package].constant_name(owner, name)

    def cyclic(self, module: str, other: str) -> bool:
        """Whether two modules need one another, so that neither can be imported whole before the other."""
        return module != other and other in self._cycles[module]

    def _import_cycles(self) -> dict[str, set[str]]:
        """For each module the others that it needs and that need it, in however many steps."""
        direct: dict[str, set[str]] = {}
        for type_def, definition in self.definitions.items():
            needed = direct.setdefault(self.module(type_def), set())
            needed.update(self.module(base) for base in definition.bases())
        return {module: ring for ring in _rings(direct) for module in ring}

    # Defaults

    def default_needs(self, part: FieldDef, module: str) -> set[TypeDef] | None:
        """The classes that must be there before a field's default can be made; None if it can have none."""
        if part.default is not None:
            needs: set[TypeDef] | None = set(_enums(part.default))
        else:
            needs = self._needs(part.type)
        if needs and any(self.cyclic(module, self.module(needed)) for needed in needs):
            return None
        return needs

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
        module = self.module(type_def)
        height = 0
        made = True
        for part in fields:  # all of them, so that none that holds this type is missed
            needs = self.default_needs(part, module)
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

    def package_doc(self, types: Iterable[TypeDef]) -> list[str]:
        """What stands before the package statements of the files of these types."""
        found: list[str] = []
        for source in {type_def.source: None for type_def in sorted(types, key=_name)}:
            found += paragraphs(self._analysis.world.document(source).doc)
        return found


_HANDED = (Builtin.IBINDER, Builtin.PARCEL_FILE_DESCRIPTOR, Builtin.FILE_DESCRIPTOR)
"""What cannot be made of nothing."""


def _renamed(made: Definition) -> Iterator[tuple[str, str]]:
    for part in made.fields:
        yield part.name, field_name(part.name)
    for method in made.methods:
        yield method.name, method_name(method.name)
        for argument in method.arguments:
            yield argument.name, argument_name(argument.name)


def _name(type_def: TypeDef) -> str:
    return type_def.name


def _rings(direct: Mapping[str, set[str]]) -> Iterator[set[str]]:
    """The modules in sets of those that need one another, in however many steps (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    pending: dict[str, None] = {}
    for start in direct:
        path: list[tuple[str, Iterator[str]]] = []
        if start not in number:
            path.append((start, iter(())))
        while path:
            module, rest = path[-1]
            if module not in number:
                number[module] = lowest[module] = len(number)
                pending[module] = None
                rest = iter(direct.get(module, ()))
                path[-1] = (module, rest)
            for other in rest:
                if other not in number:
                    path.append((other, iter(())))
                    break
                if other in pending:
                    lowest[module] = min(lowest[module], number[other])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    lowest[above] = min(lowest[above], lowest[module])
                if lowest[module] == number[module]:
                    yield _ring(pending, module)


def _ring(pending: dict[str, None], first: str) -> set[str]:
    """Takes what was added since `first`."""
    ring = set()
    while first not in ring:
        ring.add(pending.popitem()[0])
    return ring


def _enums(value: Constant) -> set[TypeDef]:
    if isinstance(value, list):
        return {found for item in value for found in _enums(item)}
    return {value.type} if isinstance(value, EnumValue) else set()
