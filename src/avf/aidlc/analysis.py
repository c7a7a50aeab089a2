"""Declarations as written to declarations as meant, and the rules of the language on them."""

from collections.abc import Callable, Iterable

from . import tree
from .annotations import Target, check, target_of
from .constants import Evaluator
from .errors import Diagnostics
from .model import (
    ArgumentDef,
    Builtin,
    Constant,
    ConstantDef,
    Definition,
    EnumeratorDef,
    FieldDef,
    MethodDef,
    Type,
    TypeDef,
)
from .permissions import Annotations, Demand, demand, marks
from .resolver import TypeResolver
from .source import Span
from .values import literal_text, parse_integer
from .world import World

FIRST_CODE = 1
"""IBinder.FIRST_CALL_TRANSACTION: the transaction code of the method numbered 0."""
MAX_IDENTIFIER = 16777114
"""The methods numbered above this are AIDL's own."""
VERSION_CODE = 16777215
HASH_CODE = 16777214

_CONSTANT_TYPES = (
    Builtin.STRING,
    Builtin.BOOLEAN,
    Builtin.BYTE,
    Builtin.CHAR,
    Builtin.INT,
    Builtin.LONG,
    Builtin.FLOAT,
    Builtin.DOUBLE,
)
_RESERVED = {
    ("asBinder", 0),
    ("getInterfaceHash", 0),
    ("getInterfaceVersion", 0),
    ("getTransactionName", 1),
}


class Analysis:
    """Resolves and checks types one by one, each once."""

    def __init__(
        self, world: World, diagnostics: Diagnostics, is_given: Callable[[TypeDef], bool]
    ) -> None:
        self.world = world
        self.diagnostics = diagnostics
        self.evaluator = Evaluator(world, diagnostics)
        self.resolver = TypeResolver(world, self.evaluator, diagnostics, is_given)
        self._known: dict[TypeDef, Definition] = {}

    def definition(self, type_def: TypeDef) -> Definition:
        """What a type is; what is wrong in it was reported and left out."""
        if type_def not in self._known:
            self.world.check_imports(type_def.source)
            made = self._known[type_def] = Definition(type_def)
            self._fill(made)
        return self._known[type_def]

    def _error(
        self, message: str, scope: TypeDef, span: Span, note: tuple[str, Span] | None = None
    ) -> None:
        notes = ((note[0], scope.place(note[1])),) if note else ()
        self.diagnostics.error(message, scope.source, span, *notes)

    def _unique(self, names: Iterable[tree.Name], what: str, scope: TypeDef) -> None:
        seen: dict[str, tree.Name] = {}
        for name in names:
            if name.text in seen:
                note = ("it is here, too", seen[name.text].span)
                self._error(f"{what} '{name.text}' is there twice", scope, name.span, note)
            seen.setdefault(name.text, name)

    def _fill(self, made: Definition) -> None:
        scope, declaration = made.type, made.type.declaration
        annotations = check(
            declaration.annotations,
            target_of(declaration),
            scope,
            self.evaluator,
            self.diagnostics,
        )
        self._unique(declaration.parameters, "type parameter", scope)
        self._unique((constant.name for constant in declaration.constants), "constant", scope)
        for constant in declaration.constants:
            self._constant(constant, made)
        if isinstance(declaration, tree.EnumDecl):
            self._enum(declaration, annotations.get("Backing", {}).get("type"), made)
        elif isinstance(declaration, tree.InterfaceDecl):
            descriptor = annotations.get("Descriptor", {}).get("value")
            made.descriptor = descriptor if isinstance(descriptor, str) else scope.name
            self._interface(declaration, annotations, made)
        elif isinstance(declaration, tree.ParcelableDecl | tree.UnionDecl):
            self._fields(declaration, made)
            if "FixedSize" in annotations:
                self._check_fixed_size(made)
            if "JavaOnlyImmutable" in annotations:
                self._check_immutable(made)

    def _constant(self, constant: tree.Constant, made: Definition) -> None:
        scope = made.type
        found = self.resolver.resolve(constant.type, scope, Target.CONSTANT)
        if found is None:
            return
        if found.is_array or found.base not in _CONSTANT_TYPES or found.nullable:
            self._error(f"there are no constants of type {found}", scope, constant.type.span)
            return
        value = self.evaluator.convert(constant.value, found, scope)
        if value is None:
            return
        text = literal_text(constant.value, value)
        made.constants.append(
            ConstantDef(constant.name.text, found, value, text, constant.doc, constant.name.span)
        )

    # Enums

    def _enum(self, declaration: tree.EnumDecl, backing: Constant | None, made: Definition) -> None:
        scope = made.type
        names = {"byte": Builtin.BYTE, "int": Builtin.INT, "long": Builtin.LONG}
        if isinstance(backing, str):
            if backing not in names:
                message = f"an enum is made of byte, int or long, not {backing}"
                self._error(message, scope, declaration.name.span)
                return
            made.backing = names[backing]
        self._unique((e.name for e in declaration.enumerators), "enumerator", scope)
        for index, enumerator in enumerate(declaration.enumerators):
            value = self.evaluator.enumerator(scope, index, made.backing)
            if value is not None:
                text = literal_text(enumerator.value, value)
                span = enumerator.name.span
                made.enumerators.append(
                    EnumeratorDef(enumerator.name.text, value, text, enumerator.doc, span)
                )

    # Parcelables and unions

    def _fields(self, declaration: tree.ParcelableDecl | tree.UnionDecl, made: Definition) -> None:
        scope = made.type
        self._unique((field.name for field in declaration.fields), "field", scope)
        is_union = isinstance(declaration, tree.UnionDecl)
        if is_union and not declaration.fields:
            self._error(f"union {scope.simple} has no members", scope, declaration.name.span)
        for index, field in enumerate(declaration.fields):
            found = self.resolver.resolve(field.type, scope, Target.FIELD)
            if found is None:
                continue
            if found.base is Builtin.VOID:
                self._error("a field cannot be void", scope, field.type.span)
                continue
            if is_union and found.base is Builtin.PARCELABLE_HOLDER:
                self._error("a union cannot hold a ParcelableHolder", scope, field.type.span)
            if is_union and index == 0 and field.default is None:
                self._check_first_member(field, found, scope)
            default = None
            if field.default is not None:
                default = self.evaluator.convert(field.default, found, scope)
            span = field.name.span
            made.fields.append(FieldDef(field.name.text, found, default, field.doc, span))

    def _check_first_member(self, field: tree.Field, found: Type, scope: TypeDef) -> None:
        """A union nobody has set holds its first member, so that one needs a value."""
        is_enum = isinstance(found.base, TypeDef) and found.base.is_enum
        if not found.nullable and ((found.is_array and not found.is_fixed) or is_enum):
            example = "an enumerator" if is_enum and not found.is_array else "{ ... }"
            message = f"the first member of a union needs a default; give it {example}"
            self._error(message, scope, field.name.span)

    def _check_fixed_size(self, made: Definition) -> None:
        for field in made.fields:
            if not self._has_fixed_size(field.type):
                message = f"{made.type.simple} is @FixedSize, {field.type} is not"
                self._error(message, made.type, field.span)

    def _has_fixed_size(self, found: Type) -> bool:
        if found.nullable or None in found.dimensions:
            return False
        base = found.base
        if isinstance(base, Builtin):
            return base in _CONSTANT_TYPES and base is not Builtin.STRING
        marked = any(a.name == "FixedSize" for a in base.declaration.annotations)
        return base.is_enum or (base.is_parcelable and marked)

    def _check_immutable(self, made: Definition) -> None:
        for field in made.fields:
            inside = field.type.element or field.type
            if not _is_immutable(inside.base):
                message = f"{made.type.simple} is @JavaOnlyImmutable, {inside} is not"
                self._error(message, made.type, field.span)

    # Interfaces

    def _interface(
        self, declaration: tree.InterfaceDecl, annotations: Annotations, made: Definition
    ) -> None:
        scope = made.type
        whole = self._demand(annotations, scope, declaration.name.span)
        self._unique((method.name for method in declaration.methods), "method", scope)
        numbered = [method for method in declaration.methods if method.identifier is not None]
        if numbered and len(numbered) < len(declaration.methods):
            other = next(m for m in declaration.methods if m.identifier is None)
            note = ("this one has a number", numbered[0].name.span)
            message = "either all methods have numbers or none has"
            self._error(message, scope, other.name.span, note)
        codes: dict[int, tree.Method] = {}
        for index, method in enumerate(declaration.methods):
            code = FIRST_CODE + self._identifier(method, index, scope)
            if code in codes:
                note = ("it is given here, too", codes[code].name.span)
                message = f"the number {code - FIRST_CODE} is given twice"
                self._error(message, scope, method.name.span, note)
            codes[code] = method
            around = (annotations, whole)
            self._method(method, code, declaration.oneway, around, made)

    def _demand(self, annotations: Annotations, scope: TypeDef, span: Span) -> Demand:
        try:
            return demand(annotations)
        except ValueError as error:
            self._error(str(error), scope, span)
            return Demand()

    def _identifier(self, method: tree.Method, index: int, scope: TypeDef) -> int:
        if method.identifier is None:
            return index
        value = parse_integer(method.identifier.text)
        if value is None or not 0 <= value.number <= MAX_IDENTIFIER:
            message = f"a method's number is from 0 to {MAX_IDENTIFIER}"
            self._error(message, scope, method.identifier.span)
            return index
        return value.number

    def _method(
        self,
        method: tree.Method,
        code: int,
        oneway: bool,
        around: tuple[Annotations, Demand],
        made: Definition,
    ) -> None:
        """`around` is what the interface's annotations say."""
        scope = made.type
        oneway = oneway or method.oneway
        if (method.name.text, len(method.arguments)) in _RESERVED:
            message = f"{method.name.text} is a method every interface has"
            self._error(message, scope, method.name.span)
        result = self.resolver.resolve(method.type, scope, Target.METHOD)
        if result is not None and result.base is Builtin.PARCELABLE_HOLDER:
            self._error("a ParcelableHolder is only for fields", scope, method.type.span)
        if oneway and result is not None and result.base is not Builtin.VOID:
            message = f"{method.name.text} is oneway, so it returns nothing"
            self._error(message, scope, method.type.span)
        self._unique((argument.name for argument in method.arguments), "argument", scope)
        arguments = [
            self._argument(argument, oneway, method, scope) for argument in method.arguments
        ]
        own = self.resolver.annotations.get(method.type, {})
        if marks(own) and marks(around[0]):
            message = (
                f"the interface is @{marks(around[0])[0]}, so its methods have no @{marks(own)[0]}"
            )
            self._error(message, scope, method.name.span)
        wanted = self._demand(own, scope, method.name.span) if marks(own) else around[1]
        if result is None or None in arguments:
            return
        made.methods.append(
            MethodDef(
                method.name.text,
                code,
                oneway,
                None if result.base is Builtin.VOID else result,
                tuple(argument for argument in arguments if argument is not None),
                method.doc,
                method.name.span,
                wanted.all_of,
                wanted.any_of,
            )
        )

    def _argument(
        self, argument: tree.Argument, oneway: bool, method: tree.Method, scope: TypeDef
    ) -> ArgumentDef | None:
        found = self.resolver.resolve(argument.type, scope)
        if found is None:
            return None
        span = argument.name.span
        what, allowed = _directions(found)
        direction = argument.direction
        if not allowed:
            self._error(f"{what} cannot be an argument", scope, argument.type.span)
            return None
        words = ", ".join(d.value for d in allowed[:-1]) + " or " * (len(allowed) > 1)
        words += allowed[-1].value
        if direction is None and len(allowed) > 1:
            message = f"say whether '{argument.name.text}' is {words}: it is {what}"
            self._error(message, scope, span)
        direction = direction or tree.Direction.IN
        if direction not in allowed:
            message = (
                f"'{argument.name.text}' cannot be {direction.value}: {what} is always {words}"
            )
            self._error(message, scope, span)
        if oneway and direction is not tree.Direction.IN:
            message = f"{method.name.text} is oneway, so nothing comes {direction.value}"
            self._error(message, scope, span)
        return ArgumentDef(argument.name.text, direction, found, span)


def _is_immutable(base: Builtin | TypeDef) -> bool:
    if isinstance(base, Builtin):
        return base in _CONSTANT_TYPES
    marked = any(a.name == "JavaOnlyImmutable" for a in base.declaration.annotations)
    return base.is_enum or (base.is_parcelable and marked)


def _directions(found: Type) -> tuple[str, tuple[tree.Direction, ...]]:
    """What an argument's type is called, and which ways it can go."""
    way = tree.Direction
    base = found.base
    if found.is_array:
        return "an array", (way.IN, way.OUT, way.INOUT)
    if base is Builtin.LIST:
        return "a List", (way.IN, way.OUT, way.INOUT)
    if base is Builtin.PARCEL_FILE_DESCRIPTOR:
        return "a ParcelFileDescriptor", (way.IN, way.INOUT)
    if base is Builtin.PARCELABLE_HOLDER or base is Builtin.VOID:
        return base.value, ()
    if isinstance(base, TypeDef):
        if base.is_parcelable:
            return f"a {base.kind}", (way.IN, way.OUT, way.INOUT)
        return "an enum" if base.is_enum else "an interface", (way.IN,)
    return base.value, (way.IN,)
