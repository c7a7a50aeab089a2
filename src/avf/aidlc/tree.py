"""The syntax tree of an .aidl file. Nodes are equal only to themselves."""

import enum
from dataclasses import dataclass, field

from .lexer import Kind
from .source import Source, Span


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """An identifier, or several with dots."""

    text: str
    span: Span


# Constant expressions


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """`text` is as written: quotes, suffixes and all. `true` and `false` are of the kind KEYWORD."""

    kind: Kind
    text: str
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A constant or an enumerator by name."""

    name: Name
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Unary:
    operator: str
    operand: "Expression"
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Binary:
    operator: str
    left: "Expression"
    right: "Expression"
    span: Span
    operator_span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    items: tuple["Expression", ...]
    span: Span


Expression = Literal | Reference | Unary | Binary | Array


# Types and annotations


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """`@Name(a=1)`; `name` is without the @. A lone unnamed argument is called `value`."""

    name: str
    arguments: tuple[tuple[Name, Expression], ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class TypeRef:
    """A type as written. `dimensions` holds None for `[]` and the size of `[N]`."""

    name: Name
    arguments: tuple["TypeRef", ...]
    dimensions: tuple[Expression | None, ...]
    annotations: tuple[Annotation, ...]
    span: Span


# Members


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    type: TypeRef
    name: Name
    value: Expression
    doc: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Of a parcelable or a union."""

    type: TypeRef
    name: Name
    default: Expression | None
    doc: str | None


class Direction(enum.Enum):
    IN = "in"
    OUT = "out"
    INOUT = "inout"


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    direction: Direction | None
    type: TypeRef
    name: Name


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """`identifier` is the number given by `= N`."""

    type: TypeRef
    name: Name
    arguments: tuple[Argument, ...]
    oneway: bool
    identifier: Literal | None
    doc: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Enumerator:
    name: Name
    value: Expression | None
    doc: str | None


# Declarations


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Declaration:
    """What all declared types have."""

    name: Name
    annotations: tuple[Annotation, ...]
    doc: str | None
    parameters: tuple[Name, ...] = ()
    constants: tuple[Constant, ...] = ()
    nested: tuple["Declaration", ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ParcelableDecl(Declaration):
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class UnionDecl(Declaration):
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EnumDecl(Declaration):
    enumerators: tuple[Enumerator, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class InterfaceDecl(Declaration):
    oneway: bool = False
    methods: tuple[Method, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ForwardDecl(Declaration):
    """`parcelable Foo;` or `interface IFoo;`: a type whose inside is not told."""

    interface: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One file."""

    source: Source
    package: Name | None
    imports: tuple[Name, ...]
    declarations: tuple[Declaration, ...]
    doc: str | None
