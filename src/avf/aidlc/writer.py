"""The text of the Python module of one AIDL type, and of that of its asyncio face."""

import re
from collections.abc import Iterator

from . import tree
from .analysis import HASH_CODE, VERSION_CODE
from .docs import docstring, paragraphs
from .layout import WIDTH, all_lines, fill, held, import_lines, module_key, signature, stack
from .model import ArgumentDef, Builtin, Definition, FieldDef, MethodDef, Type, TypeDef
from .names import argument_names
from .package import Head
from .plan import Plan
from .spelling import Spelling

_BRACKETED = re.compile(r"([\w.]*\(|\[)(.+)(\)|\])")
_STANDARD = ("abc", "typing")


class _Writer:
    """What both modules of a type have in common."""

    def __init__(self, plan: Plan, type_def: TypeDef, module: str, taken: set[str]) -> None:
        """`taken` are the names that the module's text gives a meaning to."""
        self.plan = plan
        self.type_def = type_def
        self.definition = plan.definition(type_def)
        self.version, self.hash = plan.version(type_def)
        self.words = plan.words(type_def)
        self.exports: list[str] = []
        package = plan.package(type_def)
        self.spelling = Spelling(plan, package, module, taken)

    @property
    def head(self) -> Head:
        outer = self.type_def.name[len(self.type_def.package) :].lstrip(".").partition(".")[0]
        folder = f"{self.type_def.package.replace('.', '/')}/" if self.type_def.package else ""
        return Head(f"{folder}{outer}", self.version, self.hash)

    def _module(self, title: str, body: list[str]) -> str:
        """Title, imports and `__all__` around the classes."""
        said = [title, *self.plan.file_doc(self.type_def)]
        lines = [*self.head.lines(), "", *docstring(said, 0, self.words), ""]
        lines += ["from __future__ import annotations", ""]
        imports = self.spelling.early
        standard = [name for name in _STANDARD if name in imports]
        others = sorted(imports.keys() - set(_STANDARD), key=module_key)
        own = [module for module in others if module.startswith(".")]
        for group in (standard, [module for module in others if module not in own], own):
            for module in group:
                lines += import_lines(module, imports[module])
            lines += [""] if group else []
        lines += [*all_lines(self.exports), "", "", *body]
        late = self.spelling.late
        for inside in (False, True):
            modules = [module for module in late if module.startswith(".") is inside]
            group = sorted(modules, key=module_key)
            if group:
                lines += [""] if inside and len(group) < len(late) else ["", ""]
            for module in group:
                lines += import_lines(module, late[module], tail="  # noqa: E402")
        return "\n".join(lines) + "\n"

    def _doc(self, comment: str | None, indent: int) -> list[str]:
        return docstring(paragraphs(comment), indent, self.words)

    # Methods

    def _method(self, part: MethodDef, type_def: TypeDef, word: str, indent: int) -> list[str]:
        """A method that has to be overridden; `word` is `def` or `async def`."""
        results = [part.result] if part.result else []
        results += [a.type for a in part.arguments if a.direction is not tree.Direction.IN]
        names = argument_names(part.arguments)
        parameters = [
            f"{names[argument.name]}: {self._parameter_type(argument)}"
            for argument in part.arguments
            if argument.direction is not tree.Direction.OUT or _has_length(argument)
        ]
        returned = self.spelling.annotation(*results) if results else "None"
        doc = self._doc(part.doc, indent + 4)
        name = self.plan.names(type_def).members[part.name]
        margin = " " * indent
        lines = [f"{margin}@{self.spelling.imported('abc', 'abstractmethod')}"]
        lines += signature(indent, f"{word} {name}(", ["self", *parameters], returned, ":")
        return [*lines, *doc, f"{margin}    raise NotImplementedError"]

    def _parameter_type(self, argument: ArgumentDef) -> str:
        if _has_length(argument):
            return self.spelling.binder("Length")
        return self.spelling.annotation(argument.type)

    def _meta_methods(self) -> list[tuple[int, str, str, str, str]]:
        """What a versioned interface says of itself: code, name, type, documentation and value."""
        found = []
        if self.version:
            said = "The version of the interface that the other side has."
            found.append((VERSION_CODE, "get_interface_version", "int", said, str(self.version)))
        if self.hash:
            said = "The hash of the frozen interface that the other side has."
            found.append((HASH_CODE, "get_interface_hash", "str", said, f'"{self.hash}"'))
        return found


class TypeWriter(_Writer):
    """Writes a type's class, with all that is nested in it."""

    def __init__(self, plan: Plan, type_def: TypeDef) -> None:
        super().__init__(plan, type_def, plan.module(type_def), _names_in(plan, type_def))

    def text(self) -> str:
        self.exports = [self.plan.name(self.type_def)]
        body = self._class(self.definition, 0)
        return self._module(f"AIDL {self.type_def.kind} {self.type_def.name}.", body)

    def _class(self, definition: Definition, indent: int) -> list[str]:
        type_def = definition.type
        margin = " " * indent
        name = self.plan.name(type_def).rpartition(".")[2]
        head = fill(indent, f"class {name}(", self._bases(definition), "):")
        inner = indent + 4
        parts = [self._doc(type_def.declaration.doc, inner), self._constants(definition, inner)]
        nested = map(self.plan.definition, type_def.nested.values())
        parts += [self._class(made, inner) for made in nested]
        if type_def.is_enum:
            parts.append(self._enumerators(definition, inner))
        elif type_def.is_interface:
            parts += self._methods(definition, inner)
        elif isinstance(type_def.declaration, tree.UnionDecl):
            parts += [self._members(definition, inner), self._constructors(definition, inner)]
        else:
            parts.append(self._fields(definition, inner))
        lines = _apart(parts)
        return [*head, *(lines or [f"{margin}    pass"])]

    def _bases(self, definition: Definition) -> list[str]:
        type_def = definition.type
        if type_def.is_enum:
            base = [self.spelling.binder("Enum")]
            if definition.backing is not Builtin.INT:
                base.append(f'backing="{definition.backing.value}"')
            return base
        if type_def.is_interface:
            base = [self.spelling.binder("Interface"), f'descriptor="{definition.descriptor}"']
            if type_def.is_vintf:
                base.append(f"stability={self.spelling.binder('Stability')}.VINTF")
            return base
        is_union = isinstance(type_def.declaration, tree.UnionDecl)
        base = [self.spelling.binder("Union" if is_union else "Parcelable")]
        return [*base, f'descriptor="{type_def.name}"']

    def _constants(self, definition: Definition, indent: int) -> list[str]:
        names = self.plan.names(definition.type).constants
        lines: list[str] = []
        for constant in definition.constants:
            value = constant.text or self.spelling.value(constant.value, constant.type)
            lines += held(f"{' ' * indent}{names[constant.name]} = {value}")
            lines += self._doc(constant.doc, indent)
        return lines

    def _enumerators(self, definition: Definition, indent: int) -> list[str]:
        names = self.plan.names(definition.type).members
        lines: list[str] = []
        for part in definition.enumerators:
            lines += held(f"{' ' * indent}{names[part.name]} = {part.text or part.value}")
            lines += self._doc(part.doc, indent)
        return lines

    def _members(self, definition: Definition, indent: int) -> list[str]:
        """Of a union."""
        names = self.plan.names(definition.type).members
        lines: list[str] = []
        for part in definition.fields:
            annotation = self.spelling.annotation(part.type)
            lines += held(f"{' ' * indent}{names[part.name]}: {annotation}")
            lines += self._doc(part.doc, indent)
        return lines

    def _constructors(self, definition: Definition, indent: int) -> list[str]:
        """What tells a type checker that a union is made of exactly one of its members."""
        names = self.plan.names(definition.type).members
        margin = " " * (indent + 4)
        parts: list[list[str]] = []
        for part in definition.fields:
            parameter = f"{names[part.name]}: {self.spelling.annotation(part.type)}"
            made = signature(indent + 4, "def __init__(", ["self", "*", parameter], "None", ": ...")
            if len(definition.fields) > 1:
                made = [f"{margin}@{self.spelling.imported('typing', 'overload')}", *made]
            parts.append(made)
        if len(parts) > 1:
            parts.append([f"{margin}def __init__(self, **member: object) -> None: ..."])
        checking = self.spelling.imported("typing", "TYPE_CHECKING")
        return [f"{' ' * indent}if {checking}:", "", *_apart(parts)] if parts else []

    def _fields(self, definition: Definition, indent: int) -> list[str]:
        names = self.plan.names(definition.type).members
        lines: list[str] = []
        for part in definition.fields:
            head = f"{' ' * indent}{names[part.name]}: {self.spelling.annotation(part.type)}"
            lines += self._field(part, head, indent)
            lines += self._doc(part.doc, indent)
        return lines

    def _field(self, part: FieldDef, head: str, indent: int) -> list[str]:
        default = self.spelling.default(part)
        if default is None:
            return held(head)
        value, refers = default
        if refers:
            value = f"{self.spelling.binder('field')}(factory=lambda: {value})"
        elif isinstance(part.default, list) and value.startswith("["):
            items = self.spelling.items(part.default, part.type)
            lines = stack(indent, f"{head.strip()} = [", items, "]")
            return lines if max(map(len, lines)) <= WIDTH else held(f"{head} = {value}")
        if (bracketed := _BRACKETED.fullmatch(value)) is not None:
            opening, inner, closing = bracketed.groups()
            lines = fill(indent, f"{head.strip()} = {opening}", [inner], closing)
            if max(map(len, lines)) <= WIDTH and len(lines) != 2:
                return lines
        return held(f"{head} = {value}")

    def _methods(self, definition: Definition, indent: int) -> Iterator[list[str]]:
        margin = " " * indent
        for part in definition.methods:
            marks = [_code(part.code), *(["oneway=True"] if part.oneway else [])]
            marks += [
                f"{word}={_names(names)}"
                for word, names in (("all_of", part.all_of), ("any_of", part.any_of))
                if names
            ]
            mark = fill(indent, f"@{self.spelling.binder('method')}(", marks, ")")
            yield [*mark, *self._method(part, definition.type, "def", indent)]
        for code, name, returned, said, value in self._meta_methods():
            yield [
                f"{margin}@{self.spelling.binder('method')}({_code(code)})",
                f"{margin}def {name}(self) -> {returned}:",
                f'{margin}    """{said}"""',
                f"{margin}    return {value}",
            ]


class AsyncWriter(_Writer):
    """Writes the asyncio faces of the interfaces in a type."""

    def __init__(self, plan: Plan, type_def: TypeDef) -> None:
        found = list(_interfaces(type_def))
        names = [f"{plan.name(interface).replace('.', '_')}Async" for interface in found]
        taken = {name for made in found for name in plan.names(made).members.values()}
        super().__init__(plan, type_def, f"{plan.module(type_def)}_async", taken | set(names))
        self.exports += names
        self._interfaces = [plan.definition(interface) for interface in found]

    def text(self) -> str | None:
        """None if there are none."""
        if not self._interfaces:
            return None
        body: list[str] = []
        for name, definition in zip(self.exports, self._interfaces, strict=True):
            body += [*(["", ""] if body else []), *self._class(name, definition)]
        return self._module(f"For asyncio: AIDL {self.type_def.kind} {self.type_def.name}.", body)

    def _class(self, name: str, definition: Definition) -> list[str]:
        interface = self.spelling.reference(definition.type, late=False)
        base = f"{self.spelling.binder('AsyncInterface')}[{interface}]"
        parts = [self._doc(definition.type.declaration.doc, 4)]
        parts += [self._method(m, definition.type, "async def", 4) for m in definition.methods]
        for _, method, returned, said, _ in self._meta_methods():
            parts.append(
                [
                    f"    async def {method}(self) -> {returned}:",
                    f'        """{said}"""',
                    "        raise NotImplementedError",
                ]
            )
        return [*fill(0, f"class {name}(", [base], "):"), *(_apart(parts) or ["    pass"])]


def _names_in(plan: Plan, type_def: TypeDef) -> set[str]:
    """The names that a type and what is nested in it declare."""
    names = plan.names(type_def)
    found = {plan.name(type_def).rpartition(".")[2]}
    found.update(names.constants.values(), names.members.values())
    for nested in type_def.nested.values():
        found |= _names_in(plan, nested)
    return found


def _interfaces(type_def: TypeDef) -> Iterator[TypeDef]:
    """The type and what is nested in it, as far as these are interfaces."""
    if type_def.is_interface and not isinstance(type_def.declaration, tree.ForwardDecl):
        yield type_def
    for nested in type_def.nested.values():
        yield from _interfaces(nested)


def _apart(parts: list[list[str]]) -> list[str]:
    """Parts with an empty line between them; empty ones are left out."""
    lines: list[str] = []
    for part in parts:
        if part:
            lines += [*([""] if lines else []), *part]
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
