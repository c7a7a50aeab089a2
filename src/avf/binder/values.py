"""AIDL's enums, structured parcelables and unions as Python classes.

class Level(Enum, backing="byte"):
    NONE = 0
    FULL = 1

class Config(Parcelable):
    name: str = ""
    level: Level = Level.NONE
    files: list[ParcelFileDescriptor] = []

class Payload(Union):
    path: str
    config: Config
"""

import enum
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

from .codecs import (
    Codec,
    Reader,
    Writer,
    codec_for,
    read_byte,
    read_i32,
    read_i64,
    with_presence,
    write_byte,
    write_i32,
    write_i64,
)
from .errors import Status, StatusError
from .parcel import I32, Parcel, ParcelReader, misfit, too_deep
from .wire import MAX_NESTED_VALUES

_S = TypeVar("_S", bound="Parcelable | Union")


class Enum(enum.IntEnum):
    """An AIDL enum. `backing` is "int" (default), "byte" or "long".

    A value the peer's version knows and ours does not becomes a member named UNRECOGNISED_n.
    """

    def __init_subclass__(cls, *, backing: str = "int") -> None:
        super().__init_subclass__()
        cls._backing_ = backing  # type: ignore[attr-defined]
        if backing not in _BACKINGS:
            raise TypeError(f"{cls.__name__}: an enum is backed by {', '.join(_BACKINGS)}")

    @classmethod
    def _missing_(cls, value: object) -> "Self | None":
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNRECOGNISED_{value}"
        member._value_ = value
        return member

    @classmethod
    def _binder_codec(cls) -> Codec:
        write, read_int, letter = _BACKINGS[cls._backing_]  # type: ignore[attr-defined]
        first = next(iter(cls), None)

        def read(reader: ParcelReader) -> Any:
            return cls(read_int(reader))

        return Codec(
            write, read, lambda: cls(0) if first is None else first, None, letter, convert=cls
        )


_BACKINGS: dict[str, tuple[Writer, Reader, str]] = {
    "int": (write_i32, read_i32, "i"),
    "byte": (write_byte, read_byte, "b"),
    "long": (write_i64, read_i64, "q"),
}


def own_annotations(namespace: dict[str, Any]) -> dict[str, Any]:
    """The annotations in a class body; Python 3.14 keeps them as a function."""
    found: dict[str, Any] | None = namespace.get("__annotations__")
    if found is None and (annotate := namespace.get("__annotate_func__")) is not None:
        found = annotate(1)
    return found or {}


def resolve(annotation: object, module: str) -> object:
    """The type an annotation means; strings are names in the defining module."""
    if not isinstance(annotation, str):
        return annotation
    import sys

    return eval(annotation, vars(sys.modules[module]))


class _Required:
    """The default of a field that has none."""


class ParcelableMeta(type):
    """Makes slots, and remembers the defaults, of annotated fields."""

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        descriptor: str = "",
    ) -> "ParcelableMeta":
        annotations = own_annotations(namespace)
        inherited: dict[str, Any] = {}
        for base in reversed(bases):
            inherited.update(getattr(base, "_defaults", {}))
        defaults = {
            field: namespace.pop(field, _Required)
            for field in annotations
            if not field.startswith("_")
        }
        namespace["__slots__"] = tuple(defaults)
        made = super().__new__(mcs, name, bases, namespace)
        made._descriptor = descriptor
        made._body_made = None  # type: ignore[attr-defined]
        made._defaults = {**inherited, **defaults}
        made._types = {
            **getattr(made, "_types", {}),
            **{field: annotations[field] for field in defaults},
        }
        return made

    def __init__(
        cls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        descriptor: str = "",
    ) -> None:
        super().__init__(name, bases, namespace)

    _defaults: dict[str, Any]
    _types: dict[str, Any]
    _descriptor: str
    """Its AIDL name, if that was given; a ParcelableHolder needs it."""


@dataclass_transform(kw_only_default=True)
class _ParcelableType(ParcelableMeta):
    """Tells type checkers of the generated `__init__`."""


class Parcelable(metaclass=_ParcelableType):
    """A structured parcelable: annotated fields in wire order, given by keyword. Mutable defaults are copied.

    `class Foo(Parcelable, descriptor="a.b.Foo")` may be put into a ParcelableHolder as it is.
    """

    _body_made: ClassVar[tuple[Writer, Reader] | None] = None

    def __init__(self, **fields: Any) -> None:
        for name, default in type(self)._defaults.items():
            if name in fields:
                value = fields.pop(name)
            elif default is _Required:
                raise TypeError(f"{type(self).__name__}: {name} is missing")
            else:
                value = _fresh(default)
            setattr(self, name, value)
        if fields:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(fields)}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self)._defaults)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in type(self)._defaults)
        return f"{type(self).__qualname__}({fields})"

    @classmethod
    def _binder_codec(cls) -> Codec:
        def write(parcel: Parcel, value: Any) -> None:
            (cls._body_made or body_of(cls))[0](parcel, value)

        def read(reader: ParcelReader) -> Any:
            return (cls._body_made or body_of(cls))[1](reader)

        return with_presence(write, read, lambda: _default_instance(cls))


def _fresh(default: Any) -> Any:
    if type(default) is list:
        return [_fresh(item) for item in default]
    if isinstance(default, Parcelable):
        copy = type(default).__new__(type(default))
        for name in type(default)._defaults:
            setattr(copy, name, _fresh(getattr(default, name)))
        return copy
    if isinstance(default, Union):
        return type(default)(**{default.which: _fresh(default.value)})
    copier = getattr(default, "_fresh_copy", None)
    return default if copier is None else copier()


class CustomParcelable:
    """A parcelable whose form is its own: in AIDL `parcelable Foo;`, without fields. Override both methods."""

    def write_to_parcel(self, parcel: Parcel) -> None:
        raise NotImplementedError

    @classmethod
    def read_from_parcel(cls, reader: ParcelReader) -> Self:
        """Reads what `write_to_parcel` wrote. Nothing says where that ends but the form itself."""
        raise NotImplementedError

    @classmethod
    def _binder_codec(cls) -> Codec:
        def write(parcel: Parcel, value: Any) -> None:
            if not isinstance(value, cls):
                raise TypeError(f"{cls.__name__} wanted, not {type(value).__name__}")
            value.write_to_parcel(parcel)

        return with_presence(write, cls.read_from_parcel, lambda: None)


def _default_of(cls: type[Parcelable], name: str, codec: Codec) -> Callable[[], Any]:
    default = cls._defaults[name]
    return codec.default if default is _Required else lambda: _fresh(default)


def _default_instance(cls: type[Parcelable]) -> Parcelable:
    made = cls.__new__(cls)
    for name, annotation in cls._types.items():
        codec = codec_for(resolve(annotation, cls.__module__))
        setattr(made, name, _default_of(cls, name, codec)())
    return made


def body_of(cls: type[_S]) -> tuple[Writer, Reader]:
    """How a parcelable's or union's body is written and read.

    It is built when first needed: its fields may be of its own type.
    """
    made: tuple[Writer, Reader] | None = vars(cls).get("_body_made")
    if made is None:
        functions = _union_functions(cls) if issubclass(cls, Union) else _body_functions(cls)
        made = cls._body_made = functions
    return made


def _body_functions(cls: type[Parcelable]) -> tuple[Writer, Reader]:
    """A structured parcelable is its size (an int, counting itself), then the fields.

    A reader leaves out the fields an older writer did not know, and jumps over those a newer one added.
    """
    fields = []
    for name, annotation in cls._types.items():
        codec = codec_for(resolve(annotation, cls.__module__))
        fields.append((name, codec, _default_of(cls, name, codec)))
    names_writers = [(name, codec.write) for name, codec, _ in fields]
    names_readers = [(name, codec.read, default) for name, codec, default in fields]

    def write(parcel: Parcel, value: Any) -> None:
        if type(value) is not cls:
            raise TypeError(f"{cls.__name__} wanted, not {type(value).__name__}")
        data = parcel.data
        start = len(data)
        data += b"\0\0\0\0"
        for name, write_field in names_writers:
            try:
                write_field(parcel, getattr(value, name))
            except (StatusError, OSError):
                raise
            except Exception as error:
                raise misfit(error, f"{cls.__name__}.{name}") from error
        I32.pack_into(data, start, len(data) - start)

    def read(reader: ParcelReader) -> Any:
        start = reader.pos
        size = reader.read_int()
        stop = start + size
        if size < 4 or stop > reader.end:
            raise StatusError(Status.BAD_VALUE, f"{cls.__name__}: size {size}")
        depth = reader.depth
        if depth >= MAX_NESTED_VALUES:
            raise too_deep(cls.__name__)
        reader.depth = depth + 1
        made = cls.__new__(cls)
        for name, read_field, default in names_readers:
            setattr(made, name, read_field(reader) if reader.pos < stop else default())
            if reader.pos > stop:
                raise StatusError(Status.BAD_VALUE, f"{cls.__name__}.{name} exceeds size {size}")
        reader.pos = stop
        reader.depth = depth
        return made

    return write, read


class UnionMeta(type):
    """Remembers a union's members in order and makes each an attribute."""

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        descriptor: str = "",
    ) -> "UnionMeta":
        types = {
            member: annotation
            for member, annotation in own_annotations(namespace).items()
            if not member.startswith("_")
        }
        for member in types:
            namespace[member] = _Member(member)
        namespace["__slots__"] = ("_value", "_which") if not bases else ()
        made = super().__new__(mcs, name, bases, namespace)
        made._types = types
        made._descriptor = descriptor
        made._body_made = None  # type: ignore[attr-defined]
        return made

    def __init__(
        cls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        descriptor: str = "",
    ) -> None:
        super().__init__(name, bases, namespace)

    _types: dict[str, Any]
    _descriptor: str
    """Its AIDL name, if that was given; a ParcelableHolder needs it."""


class _Member:
    """A union's attribute: there only while it is the one that is set."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, union: Any, owner: type) -> Any:
        if union is None:
            return self
        if union._which != self.name:
            raise AttributeError(f"{owner.__name__} holds {union._which}, not {self.name}")
        return union._value

    def __set__(self, union: Any, value: Any) -> None:
        union._which = self.name
        union._value = value


class Union(metaclass=UnionMeta):
    """An AIDL union: exactly one of the annotated members, given by keyword.

    `which` names it; reading another raises AttributeError; assigning one makes it the one.
    `class Foo(Union, descriptor="a.b.Foo")` may be put into a ParcelableHolder as it is.
    """

    _body_made: ClassVar[tuple[Writer, Reader] | None] = None
    _which: str
    _value: Any

    def __init__(self, **member: Any) -> None:
        if len(member) != 1:
            raise TypeError(f"{type(self).__name__} takes exactly one member, not {len(member)}")
        ((name, value),) = member.items()
        if name not in type(self)._types:
            raise TypeError(f"{type(self).__name__} has no member {name}")
        self._which = name
        self._value = value

    @property
    def which(self) -> str:
        return self._which

    @property
    def value(self) -> Any:
        """The member that is set."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._which == other._which and bool(self._value == other._value)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({self._which}={self._value!r})"

    @classmethod
    def _binder_codec(cls) -> Codec:
        def write(parcel: Parcel, value: Any) -> None:
            (cls._body_made or body_of(cls))[0](parcel, value)

        def read(reader: ParcelReader) -> Any:
            return (cls._body_made or body_of(cls))[1](reader)

        def default() -> Any:
            name, codec = _members(cls)[0]
            return cls(**{name: codec.default()})

        return with_presence(write, read, default)


def _members(cls: type[Union]) -> list[tuple[str, Codec]]:
    return [
        (name, codec_for(resolve(annotation, cls.__module__)))
        for name, annotation in cls._types.items()
    ]


def _union_functions(cls: type[Union]) -> tuple[Writer, Reader]:
    """A union is the number of its member (an int), then that."""
    members = _members(cls)
    tags = {name: tag for tag, (name, _) in enumerate(members)}

    def write(parcel: Parcel, value: Any) -> None:
        if type(value) is not cls:
            raise TypeError(f"{cls.__name__} wanted, not {type(value).__name__}")
        name = value._which
        parcel.write_int(tags[name])
        try:
            members[tags[name]][1].write(parcel, value._value)
        except (StatusError, OSError):
            raise
        except Exception as error:
            raise misfit(error, f"{cls.__name__}.{name}") from error

    def read(reader: ParcelReader) -> Any:
        tag = reader.read_int()
        if not 0 <= tag < len(members):
            raise StatusError(Status.BAD_VALUE, f"{cls.__name__}: tag {tag}")
        depth = reader.depth
        if depth >= MAX_NESTED_VALUES:
            raise too_deep(cls.__name__)
        reader.depth = depth + 1
        name, codec = members[tag]
        made = cls(**{name: codec.read(reader)})
        reader.depth = depth
        return made

    return write, read
