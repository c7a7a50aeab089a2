"""ParcelableHolder: a field for a parcelable whose class the field's own AIDL file does not know."""

from typing import TypeVar

from .codec import Codec, with_presence
from .errors import Status, StatusError
from .fd import ParcelFileDescriptor
from .fields import body_of
from .objects import IBinder
from .parcel import (
    BINDER_OBJECT,
    FD_OBJECT,
    FD_TYPE,
    I32,
    Parcel,
    ParcelReader,
    misfit,
    refused,
)
from .parcelables import Parcelable
from .unions import Union

_P = TypeVar("_P", bound=Parcelable | Union)

STABILITY_LOCAL = 0
STABILITY_VINTF = 1


class ParcelableHolder:
    """Holds nothing, or one parcelable or union, which its descriptor names: `a.b.Foo`.

    A class declared with a descriptor (`class Foo(Parcelable, descriptor="a.b.Foo")`) needs none here. What comes from
    a peer is decoded when it is asked for, and can be passed on without that. `stability` is 1 where AIDL says
    `@VintfStability`, else 0; a received holder keeps the peer's.
    """

    __slots__ = ("_descriptor", "_raw", "_value", "stability")

    def __init__(
        self,
        value: Parcelable | Union | None = None,
        *,
        descriptor: str = "",
        stability: int = STABILITY_LOCAL,
    ) -> None:
        self.stability = stability
        self._raw: _Raw | None = None
        self._value: Parcelable | Union | None = None
        self._descriptor = ""
        self.set(value, descriptor=descriptor)

    def set(self, value: Parcelable | Union | None, *, descriptor: str = "") -> None:
        """Raises TypeError for a parcelable of no known descriptor."""
        self._descriptor = "" if value is None else _descriptor(type(value), descriptor)
        self._value = value
        self._raw = None

    def get(self, kind: type[_P], *, descriptor: str = "") -> _P | None:
        """What is held; None if nothing is. Raises StatusError BAD_VALUE if it is of another class, or malformed."""
        if not self._descriptor:
            return None
        wanted = _descriptor(kind, descriptor)
        if wanted != self._descriptor:
            raise StatusError(Status.BAD_VALUE, f"{self._descriptor} is held, not {wanted}")
        if self._raw is not None:
            self._value = self._raw.decode(kind)
            self._raw = None
        if not isinstance(self._value, kind):
            raise StatusError(Status.BAD_VALUE, f"{wanted} was read as another class before")
        return self._value

    @property
    def descriptor(self) -> str:
        """Of what is held; empty if nothing is."""
        return self._descriptor

    def _fresh_copy(self) -> "ParcelableHolder":
        """Another holder of the same value."""
        made = ParcelableHolder(stability=self.stability)
        made._value, made._descriptor, made._raw = self._value, self._descriptor, self._raw
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ParcelableHolder):
            return NotImplemented
        mine, others = self._content(), other._content()
        return self._descriptor == other._descriptor and mine == others

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if self._raw is None:
            return f"ParcelableHolder({self._value!r})"
        return f"ParcelableHolder(<{self._descriptor}, not decoded>)"

    def _content(self) -> object:
        return self._value if self._raw is None else self._raw.body()

    @classmethod
    def _binder_codec(cls) -> Codec:
        return with_presence(_write, _read, cls)


class _Raw:
    """A held parcelable's bytes where they came from, and the objects among them that the object table lists."""

    def __init__(self, reader: ParcelReader, start: int, stop: int) -> None:
        self.start = start
        self.fds: dict[int, ParcelFileDescriptor] = {}
        """By place in the buffer, ascending."""
        self.binders: dict[int, IBinder | None] = {}
        """Likewise; up to version 1 nobody knows where they are."""
        for position in sorted(set(reader.positions)):
            place = reader.base + position
            if start <= place < stop:
                reader.pos = place
                if reader.kind_at(position) == FD_TYPE:
                    self.fds[place] = reader.read_fd()
                else:
                    self.binders[place] = reader.read_binder()
        self.reader = reader.part(stop)

    def body(self) -> bytes:
        return bytes(self.reader.buf[self.start : self.reader.end])

    def decode(self, kind: type[_P]) -> _P:
        reader = _HeldReader(self.reader, self.fds, self.binders)
        reader.pos = self.start
        try:
            made: _P = body_of(kind)[1](reader)
        except Exception as error:
            raise refused(error, kind.__name__) from error
        return made

    def append_to(self, parcel: Parcel) -> None:
        """As it came; what the object table listed is written anew.

        Raises INVALID_OPERATION for another session: an address in the bytes would mean another object there.
        """
        reader = self.reader
        if parcel.table is not reader.table:
            raise StatusError(Status.INVALID_OPERATION, "a holder of another session: decode it")
        pos = self.start
        for place in sorted([*self.fds, *self.binders]):
            parcel.data += reader.buf[pos:place]
            if place in self.fds:
                parcel.write_fd(self.fds[place])
                pos = place + FD_OBJECT.size
            else:
                parcel.write_binder(self.binders[place])
                pos = place + BINDER_OBJECT.size
        parcel.data += reader.buf[pos : reader.end]


class _HeldReader(ParcelReader):
    """Reads what a holder holds, whose objects have been taken out before."""

    __slots__ = ("held_binders", "held_fds")

    def __init__(
        self,
        whole: ParcelReader,
        fds: dict[int, ParcelFileDescriptor],
        binders: "dict[int, IBinder | None]",
    ) -> None:
        super().__init__(whole.buf, whole.base, whole.table, None, whole.positions)
        self.held_fds = fds
        self.held_binders = binders

    def read_fd(self) -> ParcelFileDescriptor:
        fd = self.held_fds.get(self.pos)
        if fd is None:
            raise StatusError(Status.BAD_TYPE, "no file descriptor at this place")
        self.pos += FD_OBJECT.size
        return fd

    def read_binder(self) -> "IBinder | None":
        if self.pos not in self.held_binders:
            return super().read_binder()
        binder = self.held_binders[self.pos]
        self.pos += BINDER_OBJECT.size
        return binder


def _descriptor(kind: type[_P], given: str) -> str:
    found = given or kind._descriptor
    if not found:
        raise TypeError(f"{kind.__name__} has no descriptor: give one")
    return found


def _write(parcel: Parcel, value: ParcelableHolder) -> None:
    """Stability, size, then what the size counts: the descriptor and the body."""
    if not isinstance(value, ParcelableHolder):
        raise TypeError(f"ParcelableHolder wanted, not {type(value).__name__}")
    parcel.write_int(value.stability)
    data = parcel.data
    place = len(data)
    data += b"\0\0\0\0"
    if not value._descriptor:
        return
    parcel.write_string(value._descriptor)
    if value._raw is not None:
        value._raw.append_to(parcel)
    elif value._value is not None:
        try:
            body_of(type(value._value))[0](parcel, value._value)
        except (StatusError, OSError):
            raise
        except Exception as error:
            raise misfit(error, "ParcelableHolder") from error
    I32.pack_into(data, place, len(data) - place - 4)


def _read(reader: ParcelReader) -> ParcelableHolder:
    stability = reader.read_int()
    size = reader.read_int()
    start = reader.pos
    if stability not in (STABILITY_LOCAL, STABILITY_VINTF) or not 0 <= size <= reader.end - start:
        text = f"ParcelableHolder: stability {stability}, size {size}"
        raise StatusError(Status.BAD_VALUE, text)
    made = ParcelableHolder(stability=stability)
    if size == 0:
        return made
    descriptor = reader.read_string()
    stop = start + size
    if not descriptor or reader.pos > stop:
        raise StatusError(Status.BAD_VALUE, "ParcelableHolder: no class name")
    made._descriptor = descriptor
    made._raw = _Raw(reader, reader.pos, stop)
    reader.pos = stop
    return made
