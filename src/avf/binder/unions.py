"""AIDL's unions as Python classes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from .codec import Codec, Reader, Writer, with_presence
from .codecs import codec_for
from .errors import Status, StatusError
from .fields import body_of, fresh, items_of, own_annotations, resolve, signature
from .parcel import Parcel, ParcelReader, misfit, too_deep
from .plain import from_plain, to_plain
from .wire import MAX_NESTED_VALUES

if TYPE_CHECKING:
    from inspect import Signature


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
        return signature(cls._types, None)

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
        found = items_of(cls, value, where)
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

    def _fresh_copy(self) -> Self:
        return type(self)(**{self._which: fresh(self._value)})

    @classmethod
    def _make_body(cls) -> tuple[Writer, Reader]:
        return _union_functions(cls)

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
