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
import sys
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar, dataclass_transform

from .codecs import (
    Codec,
    Fixed,
    Reader,
    Writer,
    byte_into,
    byte_out,
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
from .plain import from_plain, to_plain
from .shapes import Shape, runs
from .wire import MAX_NESTED_VALUES

_S = TypeVar("_S", bound="Parcelable | Union")
_T = TypeVar("_T")

if TYPE_CHECKING:
    from inspect import Signature


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
    def _from_plain(cls, value: Any, where: str) -> "Self":
        try:
            return cls[value] if isinstance(value, str) else cls(value)
        except (KeyError, ValueError):
            told = repr(value[:60]) if isinstance(value, str) else type(value).__name__
            raise TypeError(f"{where}: {cls.__name__} wanted, not {told}") from None

    @classmethod
    def _binder_codec(cls) -> Codec:
        write_int, read_int, letter = _BACKINGS[cls._backing_]  # type: ignore[attr-defined]
        first = next(iter(cls), None)

        def check(value: Any) -> Any:
            if not isinstance(value, cls):
                raise _no_enumerator(cls, value)
            return value

        def write(parcel: Parcel, value: Any) -> None:
            write_int(parcel, check(value))

        def read(reader: ParcelReader) -> Any:
            return cls(read_int(reader))

        if letter == "b":
            fixed = Fixed("i", lambda value: byte_out(check(value)), lambda n: cls(byte_into(n)))
        else:
            fixed = Fixed(letter, check, cls)

        return Codec(
            write,
            read,
            lambda: cls(0) if first is None else first,
            None,
            letter,
            convert=cls,
            check=check,
            fixed=fixed,
        )


def _no_enumerator(wanted: type[Enum], value: object) -> TypeError:
    text = f"{wanted.__name__} wanted, not {type(value).__name__}"
    if type(value) is int and value.bit_length() <= 64:
        text += f"; {wanted.__name__}({value}) makes one of a number"
    return TypeError(text)


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
    """The type an annotation means; strings are expressions in the defining module."""
    if not isinstance(annotation, str):
        return annotation
    return eval(annotation, vars(sys.modules[module]))


class _Required:
    """The default of a field that has none."""


class _Factory:
    """A default that is made anew each time."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, factory: Callable[[], _T]) -> _T:
    """A default of a parcelable's field: what `factory` returns, called each time one is needed."""
    return _Factory(factory)  # type: ignore[return-value]


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
        made._descriptor = descriptor or getattr(made, "_descriptor", "")
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

    @property
    def __signature__(cls) -> "Signature":
        """For `help` and `inspect.signature`: the fields, by keyword."""
        return _signature(cls._types, lambda name: _made(cls._defaults[name]))

    _defaults: dict[str, Any]
    _types: dict[str, Any]
    _descriptor: str
    """Its AIDL name, if that was given; a ParcelableHolder needs it."""


def _signature(types: Mapping[str, Any], default_of: Callable[[str], Any] | None) -> "Signature":
    """Keyword parameters with these annotations; none is required if nothing tells defaults."""
    from inspect import Parameter, Signature  # slow to import, and nothing else needs it

    made = []
    for name, annotation in types.items():
        default = ... if default_of is None else default_of(name)
        default = Parameter.empty if default is _Required else default
        kind = Parameter.KEYWORD_ONLY
        made.append(Parameter(name, kind, default=default, annotation=annotation))
    return Signature(made)


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class _ParcelableType(ParcelableMeta):
    """Tells type checkers of the generated `__init__`."""


class Parcelable(metaclass=_ParcelableType):
    """A structured parcelable: annotated fields in wire order, given by keyword. Mutable defaults are copied.

    `class Foo(Parcelable, descriptor="a.b.Foo")` may be put into a ParcelableHolder as it is.
    `copy.replace(foo, name=1)`, or `foo.__replace__(name=1)` before Python 3.13, is a copy with other values.
    """

    _body_made: ClassVar[tuple[Writer, Reader] | None] = None

    def __init__(self, **fields: Any) -> None:
        for name, default in type(self)._defaults.items():
            if name in fields:
                value = fields.pop(name)
            elif default is _Required:
                raise TypeError(f"{type(self).__name__}: {name} is missing")
            else:
                value = _made(default)
            setattr(self, name, value)
        if fields:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(fields)}")

    def __replace__(self, **changes: Any) -> Self:
        return type(self)(**{**self._fields(), **changes})

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self)._defaults}

    def to_dict(self) -> dict[str, Any]:
        """The fields by name; parcelables and unions among them as dicts, all other values as they are."""
        return {name: to_plain(value) for name, value in self._fields().items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """What `to_dict` made a dict of; fields with a default may be left out, enums be given by name or number.

        Raises TypeError that names the field for a dict of another form. Other values are checked when they are sent.
        """
        return cls._from_plain(fields, cls.__name__)

    @classmethod
    def _from_plain(cls, value: Any, where: str) -> Self:
        if isinstance(value, cls):
            return value
        made = {
            name: from_plain(annotation, item, f"{where}.{name}")
            for name, annotation, item in _items_of(cls, value, where)
        }
        missing = [name for name, d in cls._defaults.items() if d is _Required and name not in made]
        if missing:
            raise TypeError(f"{where}: {', '.join(missing)} missing")
        return cls(**made)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self)._defaults)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._fields().items())
        return f"{type(self).__qualname__}({fields})"

    @classmethod
    def _binder_codec(cls) -> Codec:
        def write(parcel: Parcel, value: Any) -> None:
            (cls._body_made or body_of(cls))[0](parcel, value)

        def read(reader: ParcelReader) -> Any:
            return (cls._body_made or body_of(cls))[1](reader)

        return with_presence(write, read, lambda: _default_instance(cls))


def _items_of(
    cls: "type[Parcelable | Union]", value: Any, where: str
) -> list[tuple[str, object, Any]]:
    """Name, type and value of what a mapping gives a class."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{where}: dict wanted, not {type(value).__name__}")
    unknown = [str(name) for name in value if name not in cls._types]
    if unknown:
        raise TypeError(f"{where}: {cls.__name__} has no {', '.join(unknown)}")
    module = cls.__module__
    return [(name, resolve(cls._types[name], module), item) for name, item in value.items()]


def _made(default: Any) -> Any:
    """A value of a field that is not given."""
    return default.make() if type(default) is _Factory else _fresh(default)


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
    return codec.default if default is _Required else lambda: _made(default)


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
        fields.append(_Field(name, codec, _default_of(cls, name, codec)))
    cuts = [fields[start:stop] for start, stop in runs([field.codec.fixed for field in fields])]
    writers = [_fields_writer(part) for part in cuts]
    readers = [_fields_reader(cls, part) for part in cuts]

    def write(parcel: Parcel, value: Any) -> None:
        if not isinstance(value, cls):
            raise TypeError(f"{cls.__name__} wanted, not {type(value).__name__}")
        depth = parcel.depth
        if depth >= MAX_NESTED_VALUES:
            raise too_deep(cls.__name__)
        parcel.depth = depth + 1
        data = parcel.data
        start = len(data)
        data += b"\0\0\0\0"
        for write_fields in writers:
            write_fields(parcel, value)
        I32.pack_into(data, start, len(data) - start)
        parcel.depth = depth

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
        for read_fields in readers:
            read_fields(reader, made, stop)
        reader.pos = stop
        reader.depth = depth
        return made

    return write, read


class _Field(NamedTuple):
    name: str
    codec: Codec
    default: Callable[[], Any]


def _fields_writer(fields: list[_Field]) -> Writer:
    """Writes these fields of a parcelable."""
    names_writers = [(field.name, field.codec.write) for field in fields]

    def write_singly(parcel: Parcel, value: Any) -> None:
        for name, write_field in names_writers:
            try:
                write_field(parcel, getattr(value, name))
            except (StatusError, OSError):
                raise
            except Exception as error:
                raise misfit(error, f".{name}") from error

    if len(fields) == 1:
        return write_singly
    shape = _shape(fields)
    values_of = attrgetter(*[field.name for field in fields])

    def write(parcel: Parcel, value: Any) -> None:
        try:
            packed = shape.packed(values_of(value))
        except AttributeError:
            packed = None
        if packed is None:
            write_singly(parcel, value)
        else:
            parcel.data += packed

    return write


def _fields_reader(
    cls: type[Parcelable], fields: list[_Field]
) -> Callable[[ParcelReader, Any, int], None]:
    """Reads these fields of a parcelable that ends at a place, those that are before it."""
    names_readers = [(field.name, field.codec.read, field.default) for field in fields]

    def read_singly(reader: ParcelReader, made: Any, stop: int) -> None:
        for name, read_field, default in names_readers:
            setattr(made, name, read_field(reader) if reader.pos < stop else default())
            if reader.pos > stop:
                raise StatusError(Status.BAD_VALUE, f"{cls.__name__}.{name} exceeds its size")

    if len(fields) == 1:
        return read_singly
    shape, names = _shape(fields), [field.name for field in fields]

    def read(reader: ParcelReader, made: Any, stop: int) -> None:
        pos = reader.pos
        after = pos + shape.size
        if after > stop:
            read_singly(reader, made, stop)
            return
        for name, value in zip(names, shape.unpacked(reader.buf, pos), strict=True):
            setattr(made, name, value)
        reader.pos = after

    return read


def _shape(fields: list[_Field]) -> Shape:
    return Shape([field.codec.fixed for field in fields if field.codec.fixed is not None])


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
        made._types = {**getattr(made, "_types", {}), **types}
        made._descriptor = descriptor or getattr(made, "_descriptor", "")
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

    @property
    def __signature__(cls) -> "Signature":
        """For `help` and `inspect.signature`: the members, by keyword."""
        return _signature(cls._types, None)

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

    def to_dict(self) -> dict[str, Any]:
        """The member that is set, by its name; a parcelable or union as a dict."""
        return {self._which: to_plain(self._value)}

    @classmethod
    def from_dict(cls, member: Mapping[str, Any]) -> Self:
        """What `to_dict` made a dict of. Raises TypeError that says where for one of another form."""
        return cls._from_plain(member, cls.__name__)

    @classmethod
    def _from_plain(cls, value: Any, where: str) -> Self:
        if isinstance(value, cls):
            return value
        found = _items_of(cls, value, where)
        if len(found) != 1:
            raise TypeError(f"{where}: {cls.__name__} has exactly one member, not {len(found)}")
        ((name, annotation, item),) = found
        return cls(**{name: from_plain(annotation, item, f"{where}.{name}")})

    def __replace__(self, **member: Any) -> Self:
        return type(self)(**(member or {self._which: self._value}))

    @property
    def which(self) -> str:
        """The name of the member that is set."""
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
        if not isinstance(value, cls):
            raise TypeError(f"{cls.__name__} wanted, not {type(value).__name__}")
        depth = parcel.depth
        if depth >= MAX_NESTED_VALUES:
            raise too_deep(cls.__name__)
        parcel.depth = depth + 1
        name = value._which
        parcel.write_int(tags[name])
        try:
            members[tags[name]][1].write(parcel, value._value)
        except (StatusError, OSError):
            raise
        except Exception as error:
            raise misfit(error, f".{name}") from error
        parcel.depth = depth

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
