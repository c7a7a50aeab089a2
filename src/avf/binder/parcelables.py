"""AIDL's structured parcelables as Python classes, and those of a form of their own."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

from .bodies import Field, body_functions
from .codec import Codec, Reader, Writer, with_presence
from .codecs import codec_for
from .fields import (
    Required,
    body_of,
    field,
    fresh,
    items_of,
    made_of,
    own_annotations,
    resolve,
    signature,
)
from .parcel import Parcel, ParcelReader
from .plain import from_plain, to_plain

if TYPE_CHECKING:
    from inspect import Signature


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
            field: namespace.pop(field, Required)
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
        return signature(cls._types, lambda name: made_of(cls._defaults[name]))

    _defaults: dict[str, Any]
    _types: dict[str, Any]
    _descriptor: str
    """Its AIDL name, if that was given; a ParcelableHolder needs it."""


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
            elif default is Required:
                raise TypeError(f"{type(self).__name__}: {name} is missing")
            else:
                value = made_of(default)
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
            for name, annotation, item in items_of(cls, value, where)
        }
        missing = [name for name, d in cls._defaults.items() if d is Required and name not in made]
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

    def _fresh_copy(self) -> Self:
        made = type(self).__new__(type(self))
        for name in type(self)._defaults:
            setattr(made, name, fresh(getattr(self, name)))
        return made

    @classmethod
    def _make_body(cls) -> tuple[Writer, Reader]:
        return body_functions(cls, _fields_of(cls))

    @classmethod
    def _binder_codec(cls) -> Codec:
        def write(parcel: Parcel, value: Any) -> None:
            (cls._body_made or body_of(cls))[0](parcel, value)

        def read(reader: ParcelReader) -> Any:
            return (cls._body_made or body_of(cls))[1](reader)

        return with_presence(write, read, lambda: _default_instance(cls))


def _fields_of(cls: type[Parcelable]) -> list[Field]:
    fields = []
    for name, annotation in cls._types.items():
        codec = codec_for(resolve(annotation, cls.__module__))
        fields.append(Field(name, codec, _default_of(cls, name, codec)))
    return fields


def _default_of(cls: type[Parcelable], name: str, codec: Codec) -> Callable[[], Any]:
    default = cls._defaults[name]
    return codec.default if default is Required else lambda: made_of(default)


def _default_instance(cls: type[Parcelable]) -> Parcelable:
    made = cls.__new__(cls)
    for each in _fields_of(cls):
        setattr(made, each.name, each.default())
    return made


class CustomParcelable:
    """A parcelable whose form is its own: in AIDL `parcelable Foo;`, without fields. Override both methods."""

    def write_to_parcel(self, parcel: Parcel) -> None:
        """Writes the value in its own form, which `read_from_parcel` must be able to find the end of."""
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
