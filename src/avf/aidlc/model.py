"""What .aidl files mean, with every name resolved and every constant computed."""

import enum
from dataclasses import dataclass, field, replace

from . import tree
from .errors import Place
from .source import Source, Span


class Builtin(enum.Enum):
    """The types every file knows, by their AIDL names."""

    VOID = "void"
    BOOLEAN = "boolean"
    BYTE = "byte"
    CHAR = "char"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    STRING = "String"
    LIST = "List"
    MAP = "Map"
    IBINDER = "IBinder"
    FILE_DESCRIPTOR = "FileDescriptor"
    CHAR_SEQUENCE = "CharSequence"
    PARCEL_FILE_DESCRIPTOR = "ParcelFileDescriptor"
    PARCELABLE_HOLDER = "ParcelableHolder"


PRIMITIVES = frozenset(
    {
        Builtin.VOID,
        Builtin.BOOLEAN,
        Builtin.BYTE,
        Builtin.CHAR,
        Builtin.INT,
        Builtin.LONG,
        Builtin.FLOAT,
        Builtin.DOUBLE,
    }
)


class TypeDef:
    """A declared type. `name` is its full name; `tag_of` is the union whose implicit enum Tag this is."""

    __slots__ = ("declaration", "name", "nested", "package", "parent", "simple", "source", "tag_of")

    def __init__(
        self,
        declaration: tree.Declaration,
        source: Source,
        package: str,
        parent: "TypeDef | None" = None,
    ) -> None:
        self.declaration = declaration
        self.source = source
        self.package = package
        self.parent = parent
        self.simple = declaration.name.text
        outer: str = parent.name if parent else package
        self.name: str = f"{outer}.{self.simple}" if outer else self.simple
        self.tag_of: TypeDef | None = None
        self.nested: dict[str, TypeDef] = {}

    def __repr__(self) -> str:
        return f"TypeDef({self.name})"

    @property
    def outermost(self) -> "TypeDef":
        """The type around it that is nested in no other; itself if there is none."""
        return self if self.parent is None else self.parent.outermost

    def place(self, span: Span | None = None) -> Place:
        return Place(self.source, span or self.declaration.name.span)

    @property
    def is_enum(self) -> bool:
        return isinstance(self.declaration, tree.EnumDecl)

    @property
    def is_interface(self) -> bool:
        declaration = self.declaration
        if isinstance(declaration, tree.ForwardDecl):
            return declaration.interface
        return isinstance(declaration, tree.InterfaceDecl)

    @property
    def is_parcelable(self) -> bool:
        """Parcelables, structured or not, and unions."""
        return not self.is_enum and not self.is_interface

    @property
    def is_vintf(self) -> bool:
        """Whether it, or a type around it, is marked as @VintfStability."""
        marks = (annotation.name for annotation in self.declaration.annotations)
        return "VintfStability" in marks or (self.parent is not None and self.parent.is_vintf)

    @property
    def kind(self) -> str:
        """What people call it."""
        declaration = self.declaration
        if isinstance(declaration, tree.UnionDecl):
            return "union"
        return "enum" if self.is_enum else "interface" if self.is_interface else "parcelable"


@dataclass(frozen=True, slots=True)
class Type:
    """A resolved type. `dimensions` are the outer array's first: None for `[]`, N for `[N]`."""

    base: Builtin | TypeDef
    dimensions: tuple[int | None, ...] = ()
    nullable: bool = False
    element: "Type | None" = None
    """List's argument."""
    vintf: bool = False
    """Of a ParcelableHolder: whether it is in a type marked as @VintfStability."""
    heap: bool = False
    """Of a nullable parcelable: whether it is @nullable(heap=true)."""
    null_inside: bool = False
    """Of an array of fixed size in a nullable array: it cannot be null, what it holds can."""

    def item(self) -> "Type":
        """An array's element. Those of a nullable array are nullable, as far as AIDL lets them."""
        nulls = self.nullable or self.null_inside
        inner = Type(self.base, self.dimensions[1:], null_inside=nulls)
        return replace(inner, nullable=nulls and inner.can_be_null)

    @property
    def can_be_null(self) -> bool:
        if self.dimensions:
            return not self.is_fixed
        base = self.base
        if isinstance(base, TypeDef):
            return not base.is_enum
        return base not in PRIMITIVES and base is not Builtin.FILE_DESCRIPTOR

    @property
    def is_fixed(self) -> bool:
        return bool(self.dimensions) and self.dimensions[0] is not None

    @property
    def is_array(self) -> bool:
        return bool(self.dimensions)

    def __str__(self) -> str:
        base = self.base.name if isinstance(self.base, TypeDef) else self.base.value
        inner = f"<{self.element}>" if self.element else ""
        return base + inner + "".join(f"[{'' if n is None else n}]" for n in self.dimensions)


@dataclass(frozen=True, slots=True)
class EnumValue:
    """An enumerator as a constant's value."""

    type: TypeDef
    name: str
    number: int


Constant = bool | int | float | str | EnumValue | list["Constant"]


@dataclass(frozen=True, slots=True)
class ConstantDef:
    """`text` is the literal as written, where it is one and worth keeping."""

    name: str
    type: Type
    value: Constant
    text: str
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class EnumeratorDef:
    name: str
    value: int
    text: str
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class FieldDef:
    name: str
    type: Type
    default: Constant | None
    doc: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class ArgumentDef:
    name: str
    direction: tree.Direction
    type: Type
    span: Span


@dataclass(frozen=True, slots=True)
class MethodDef:
    """`code` is the transaction code; `result` is None for void.

    A caller needs all permissions in `all_of`, and one of those in `any_of` if there are any.
    """

    name: str
    code: int
    oneway: bool
    result: Type | None
    arguments: tuple[ArgumentDef, ...]
    doc: str | None
    span: Span
    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()


@dataclass(slots=True)
class Definition:
    """A declared type with all it holds. Which of the lists are filled is the kind's."""

    type: TypeDef
    constants: list[ConstantDef] = field(default_factory=list)
    enumerators: list[EnumeratorDef] = field(default_factory=list)
    backing: Builtin = Builtin.BYTE
    fields: list[FieldDef] = field(default_factory=list)
    methods: list[MethodDef] = field(default_factory=list)
    descriptor: str = ""

    def bases(self) -> list[TypeDef]:
        """The declared types it mentions."""
        inner = [found.element for found in self.types() if found.element is not None]
        return [found.base for found in [*self.types(), *inner] if isinstance(found.base, TypeDef)]

    def held(self) -> list[TypeDef]:
        """The parcelables that one of these always has room for: C++ and Rust keep them inside of it."""
        types = (part.type for part in self.fields if not part.type.is_array)
        return [
            found.base
            for found in types
            if isinstance(found.base, TypeDef) and found.base.is_parcelable and not found.heap
        ]

    def types(self) -> list[Type]:
        """The types of its fields, arguments and results."""
        found = [part.type for part in self.fields]
        for method in self.methods:
            found += [argument.type for argument in method.arguments]
            if method.result is not None:
                found.append(method.result)
        return found
