"""The text of one Python module."""

import re
from collections.abc import Iterable

from . import tree
from .analysis import HASH_CODE, VERSION_CODE
from .docs import docstring, paragraphs
from .layout import all_lines, fill, import_lines, signature, stack
from .model import ArgumentDef, Builtin, Definition, FieldDef, MethodDef, Type, TypeDef
from .names import (
    argument_name,
    enumerator_name,
    field_name,
    length_name,
    member_name,
    method_name,
)
from .order import ordered
from .plan import Plan
from .source import Span
from .spelling import Spelling

_BRACKETED = re.compile(r"([\w.]*\(|\[)(.+)(\)|\])")
_NOTE = "# Written by avf-aidl from .aidl files: change those and run it again."


class ModuleWriter:
    """Writes the constants and classes of one module."""

    def __init__(self, plan: Plan, module: str, definitions: Iterable[Definition]) -> None:
        self.plan = plan
        self.module = module
        self.definitions = ordered(definitions, self._needs)
        self.taken: dict[str, tuple[TypeDef, Span]] = {}
        for definition in self.definitions:
            self._take_names(definition)
        self.spelling = Spelling(plan, module, self.taken)

    def _needs(self, definition: Definition) -> set[TypeDef]:
        found: set[TypeDef] = set()
        for part in definition.fields:
            found |= self.plan.default_needs(part, self.module) or set()
        return found

    def _take_names(self, definition: Definition) -> None:
        type_def = definition.type
        names = [(self.plan.name(type_def), type_def.declaration.name.span)]
        names += [(self.plan.constant_name(type_def, c.name), c.span) for c in definition.constants]
        for name, span in names:
            if name in self.taken:
                other, place = self.taken[name]
                note = ("this is the other", other.place(place))
                message = f"two things are called {name} in the Python module {self.module}"
                self.plan.diagnostics.error(message, type_def.source, span, note)
            self.taken[name] = (type_def, span)

    # The module

    def text(self) -> str:
        constants = [line for made in self.definitions for line in self._constants(made)]
        classes: list[str] = []
        for definition in self.definitions:
            classes += ["", "", *self._class(definition)]
            self.spelling.written.add(definition.type)
        lines = self._head()
        if constants:
            lines += ["", *constants]
        lines += classes
        if self.spelling.late:
            lines += ["", ""]
            lines += [f"import {name}  # noqa: E402" for name in sorted(self.spelling.late)]
        return "\n".join(lines) + "\n"

    def _head(self) -> list[str]:
        """Docstring, imports and `__all__`."""
        packages = sorted({definition.type.package for definition in self.definitions})
        said = self.plan.package_doc(definition.type for definition in self.definitions)
        title = f"Package {', '.join(packages)}"
        first = f"{title}: {said[0][:1].lower()}{said[0][1:]}" if said else f"{title}."
        lines = [*docstring([first, *said[1:]], 0, self.plan.words), "", _NOTE, ""]
        imports = self.spelling.imports
        if "typing" in imports:
            lines += [*import_lines("typing", imports["typing"]), ""]
        others = sorted(imports.keys() - {"typing"})
        for module in others:
            lines += import_lines(module, imports[module])
        return [*lines, *([""] if others else []), *all_lines(self.taken)]

    def _constants(self, definition: Definition) -> list[str]:
        lines: list[str] = []
        for constant in definition.constants:
            name = self.plan.constant_name(definition.type, constant.name)
            value = constant.text or self.spelling.value(constant.value, constant.type)
            lines += [f"{name} = {value}", *self._doc(constant.doc, 0)]
        return lines

    # Classes

    def _class(self, definition: Definition) -> list[str]:
        type_def = definition.type
        if type_def.is_enum:
            base = [self.spelling.binder("Enum")]
            if definition.backing is not Builtin.INT:
                base.append(f'backing="{definition.backing.value}"')
            members = self._enumerators(definition)
        elif type_def.is_interface:
            base = [self.spelling.binder("Interface"), f'descriptor="{definition.descriptor}"']
            if type_def.is_vintf:
                base.append(f"stability={self.spelling.binder('Stability')}.VINTF")
            members = self._methods(definition)
        else:
            is_union = isinstance(type_def.declaration, tree.UnionDecl)
            base = [self.spelling.binder("Union" if is_union else "Parcelable")]
            base.append(f'descriptor="{self.plan.descriptor(type_def)}"')
            members = self._members(definition) if is_union else self._fields(definition)
        head = fill(0, f"class {self.plan.name(type_def)}(", base, "):")
        doc = docstring(self._about(type_def), 4, self.plan.words)
        if doc and members:
            return [*head, *doc, "", *members]
        return [*head, *(doc or members or ["    pass"])]

    def _doc(self, comment: str | None, indent: int) -> list[str]:
        return docstring(paragraphs(comment), indent, self.plan.words)

    def _about(self, type_def: TypeDef) -> list[str]:
        said = paragraphs(type_def.declaration.doc)
        if said or type_def.parent is None:
            return said
        start = len(type_def.package) + 1 if type_def.package else 0
        return [f"{type_def.name[start:]}."]

    def _distinct(self, names: Iterable[tuple[str, str, Span]], type_def: TypeDef) -> None:
        """Reports what has one name in Python though it has two in AIDL."""
        seen: dict[str, str] = {}
        for name, original, span in names:
            if seen.setdefault(name, original) != original:
                message = f"'{original}' and '{seen[name]}' are both {name} in Python"
                self.plan.diagnostics.error(message, type_def.source, span)

    def _enumerators(self, definition: Definition) -> list[str]:
        names = [(enumerator_name(e.name), e.name, e.span) for e in definition.enumerators]
        self._distinct(names, definition.type)
        lines: list[str] = []
        for part, (name, _, _) in zip(definition.enumerators, names, strict=True):
            lines.append(f"    {name} = {part.text or part.value}")
            lines += self._doc(part.doc, 4)
        return lines

    def _members(self, definition: Definition) -> list[str]:
        """Of a union."""
        names = [(member_name(f.name), f.name, f.span) for f in definition.fields]
        self._distinct(names, definition.type)
        lines: list[str] = []
        for part, (name, _, _) in zip(definition.fields, names, strict=True):
            lines.append(f"    {name}: {self.spelling.annotation(part.type)}")
            lines += self._doc(part.doc, 4)
        return lines

    def _fields(self, definition: Definition) -> list[str]:
        names = [(field_name(f.name), f.name, f.span) for f in definition.fields]
        self._distinct(names, definition.type)
        lines: list[str] = []
        for part, (name, _, _) in zip(definition.fields, names, strict=True):
            lines += self._field(part, f"{name}: {self.spelling.annotation(part.type)}")
            lines += self._doc(part.doc, 4)
        return lines

    def _field(self, part: FieldDef, head: str) -> list[str]:
        value = self.spelling.default(part)
        if value is None:
            return [f"    {head}"]
        if isinstance(part.default, list) and value.startswith("["):
            items = self.spelling.items(part.default, part.type)
            return stack(4, f"{head} = [", items, "]")
        bracketed = _BRACKETED.fullmatch(value)
        if bracketed is None:
            return [f"    {head} = {value}"]
        opening, inner, closing = bracketed.groups()
        return fill(4, f"{head} = {opening}", [inner], closing)

    # Methods

    def _methods(self, definition: Definition) -> list[str]:
        names = [(method_name(m.name), m.name, m.span) for m in definition.methods]
        self._distinct(names, definition.type)
        lines: list[str] = []
        for part, (name, _, _) in zip(definition.methods, names, strict=True):
            lines += ["", *self._method(part, name, definition.type)]
        return [*lines, *self._meta_methods(definition)][1:]

    def _method(self, part: MethodDef, name: str, type_def: TypeDef) -> list[str]:
        marks = [_code(part.code), *(["oneway=True"] if part.oneway else [])]
        marks += [
            f"{word}={_names(names)}"
            for word, names in (("all_of", part.all_of), ("any_of", part.any_of))
            if names
        ]
        results = [part.result] if part.result else []
        parameters: list[tuple[str, str, Span]] = []
        annotated: list[str] = []
        for argument in part.arguments:
            if argument.direction is not tree.Direction.IN:
                results.append(argument.type)
            if (parameter := self._parameter(argument)) is not None:
                annotated.append(f"{parameter}: {self._parameter_type(argument)}")
                parameters.append((parameter, argument.name, argument.span))
        self._distinct(parameters, type_def)
        returned = self.spelling.annotation(*results) if results else "None"
        doc = self._doc(part.doc, 8)
        if part.oneway:
            body, end = doc, ":" if doc else ": ..."
        else:
            body, end = [*doc, "        raise NotImplementedError"], ":"
        head = signature(4, f"def {name}(", ["self", *annotated], returned, end)
        return [*fill(4, f"@{self.spelling.binder('method')}(", marks, ")"), *head, *body]

    def _parameter(self, argument: ArgumentDef) -> str | None:
        """How an argument is called, if it goes in. Of an array that only comes out, its length does."""
        name = argument_name(argument.name)
        if argument.direction is not tree.Direction.OUT:
            return name
        return length_name(name) if _has_length(argument) else None

    def _parameter_type(self, argument: ArgumentDef) -> str:
        return "int" if _has_length(argument) else self.spelling.annotation(argument.type)

    def _meta_methods(self, definition: Definition) -> list[str]:
        """What a versioned interface answers about itself."""
        options = self.plan.options
        if definition.type not in self.plan.roots:
            return []
        mark = self.spelling.binder("method") if options.version or options.hash else ""
        lines: list[str] = []
        if options.version:
            lines += ["", f"    @{mark}({_code(VERSION_CODE)})"]
            lines += ["    def get_interface_version(self) -> int:"]
            lines += ['        """The version of the interface that the other side has."""']
            lines += [f"        return {options.version}"]
        if options.hash:
            lines += ["", f"    @{mark}({_code(HASH_CODE)})"]
            lines += ["    def get_interface_hash(self) -> str:"]
            lines += ['        """The hash of the frozen interface that the other side has."""']
            lines += [f'        return "{options.hash}"']
        return lines


def _code(code: int) -> str:
    return str(code) if code < 1 << 16 else f"0x{code:08X}"


def _names(names: tuple[str, ...]) -> str:
    """A tuple of strings that have neither quotes nor backslashes."""
    inner = ", ".join(f'"{name}"' for name in names)
    return f"({inner},)" if len(names) == 1 else f"({inner})"


def _has_length(argument: ArgumentDef) -> bool:
    """A dynamic array that comes out is preceded, going in, by the number of elements there is room for."""
    found: Type = argument.type
    return argument.direction is tree.Direction.OUT and found.is_array and not found.is_fixed
