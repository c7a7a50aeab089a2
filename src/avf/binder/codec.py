"""How one AIDL type is written and read, as a value."""

from collections.abc import Callable
from typing import Any

from .errors import Status, StatusError
from .parcel import Parcel, ParcelReader

Writer = Callable[[Parcel, Any], None]
Reader = Callable[[ParcelReader], Any]


class Fixed:
    """How a value that always takes the same number of bytes is packed beside others like it."""

    __slots__ = ("into", "letter", "out")

    def __init__(
        self,
        letter: str,
        out: Callable[[Any], Any] | None = None,
        into: Callable[[Any], Any] | None = None,
    ) -> None:
        self.letter = letter
        """struct's letter for what travels."""
        self.out = out
        """What makes that of a value, or raises TypeError or ValueError; None if struct does."""
        self.into = into
        """What makes a value of what has come, if it is not one yet."""


class Codec:
    """How one AIDL type is written and read."""

    __slots__ = ("check", "convert", "default", "fixed", "nullable", "packed", "read", "write")

    def __init__(
        self,
        write: Writer,
        read: Reader,
        default: Callable[[], Any],
        nullable: "tuple[Writer, Reader] | None" = None,
        packed: str = "",
        convert: Callable[[Any], Any] | None = None,
        check: Callable[[Any], None] | None = None,
        fixed: Fixed | None = None,
    ) -> None:
        self.write = write
        self.read = read
        self.default = default
        """What a value is that the peer did not send."""
        self.nullable = nullable
        """The same for `T | None`; None if AIDL has no nullable T."""
        self.packed = packed
        """struct's letter for an element inside an array, if arrays of it are packed."""
        self.convert = convert
        """What makes a value of an element so unpacked, if it is not one yet."""
        self.check = check
        """What raises TypeError for an element that must not be packed although it is a number."""
        self.fixed = fixed
        """How it is packed together with its neighbours, if it is always of one size."""


def or_minus_one(write: Writer) -> Writer:
    def write_nullable(parcel: Parcel, value: Any) -> None:
        if value is None:
            parcel.data += b"\xff\xff\xff\xff"
        else:
            write(parcel, value)

    return write_nullable


def with_presence(write_body: Writer, read_body: Reader, default: Callable[[], Any]) -> Codec:
    """A parcelable's codec: an int says whether a body follows."""

    def write(parcel: Parcel, value: Any) -> None:
        parcel.data += b"\1\0\0\0"
        write_body(parcel, value)

    def write_nullable(parcel: Parcel, value: Any) -> None:
        if value is None:
            parcel.data += b"\0\0\0\0"
        else:
            write(parcel, value)

    def read_nullable(reader: ParcelReader) -> Any:
        return read_body(reader) if reader.read_int() else None

    def read(reader: ParcelReader) -> Any:
        if not reader.read_int():
            raise StatusError(Status.UNEXPECTED_NULL, "parcelable")
        return read_body(reader)

    return Codec(write, read, default, (write_nullable, read_nullable))
