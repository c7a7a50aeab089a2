"""From type annotations to functions that write and read: built once per type, free of introspection afterwards."""

import enum
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

from .arrays import fixed_array, list_codec
from .codec import Codec, or_minus_one, with_presence
from .errors import Status, StatusError
from .fd import ParcelFileDescriptor
from .objects import IBinder, cast
from .parcel import Parcel, ParcelReader, misfit
from .scalars import BOOL, BYTE, CHAR, DOUBLE, FLOAT, INT, LENGTH, LONG


class Scalar(enum.Enum):
    """Marks an `Annotated` Python type as one of AIDL's that Python has no own type for."""

    BYTE = "byte"
    CHAR = "char"
    LONG = "long"
    LENGTH = "length"
    FLOAT = "float"
    FILE_DESCRIPTOR = "FileDescriptor"


class FixedSize:
    """Marks an array type as one of exactly `size` elements: `Annotated[bytes, FixedSize(64)]` is `byte[64]`."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


Byte = Annotated[int, Scalar.BYTE]
"""AIDL byte, -128 to 127. (`byte[]` is `bytes`.)"""
Char = Annotated[str, Scalar.CHAR]
"""AIDL char: a string of one UTF-16 unit."""
Long = Annotated[int, Scalar.LONG]
"""AIDL long: 64 bits, signed. (Plain `int` is AIDL int: 32 bits.)"""
Length = Annotated[int, Scalar.LENGTH]
"""The number of elements that a caller has room for in an array that comes out of a method: 0 to 614,400."""
Float = Annotated[float, Scalar.FLOAT]
"""AIDL float: 32 bits. (Plain `float` is AIDL double.)"""
FileDescriptor = Annotated[ParcelFileDescriptor, Scalar.FILE_DESCRIPTOR]
"""AIDL FileDescriptor: a descriptor without what AIDL's ParcelFileDescriptor has around it. Never null."""


def codec_for(annotation: object) -> Codec:
    """Raises TypeError for what is no AIDL type."""
    found = _cache.get(annotation) if annotation.__hash__ is not None else None
    if found is None:
        found = _build(annotation)
        _cache[annotation] = found
    return found


def _build(annotation: Any) -> Codec:
    origin = typing.get_origin(annotation)
    if origin is list:
        return list_codec(codec_for(typing.get_args(annotation)[0]))
    if origin is Annotated:
        return _annotated_codec(annotation)
    if origin is tuple:
        return _tuple_codec([codec_for(part) for part in typing.get_args(annotation)])
    if origin is types.UnionType or origin is typing.Union:
        return _nullable_codec(annotation)
    if isinstance(annotation, type) and issubclass(annotation, IBinder):
        return _object_codec(annotation)
    make = getattr(annotation, "_binder_codec", None)
    if make is None:
        raise TypeError(f"{annotation!r} is not an AIDL type")
    made: Codec = make()
    return made


def _nullable_codec(annotation: Any) -> Codec:
    inner = [part for part in typing.get_args(annotation) if part is not type(None)]
    if len(inner) != 1 or len(typing.get_args(annotation)) != 2:
        raise TypeError(f"{annotation!r}: only `T | None` is an AIDL type")
    codec = codec_for(inner[0])
    if codec.nullable is None:
        raise TypeError(f"{annotation!r}: AIDL has no nullable {inner[0]!r}")
    write, read = codec.nullable
    return Codec(write, read, _none, codec.nullable)


def _annotated_codec(annotation: Any) -> Codec:
    inner = annotation.__origin__
    for mark in annotation.__metadata__:
        if isinstance(mark, Scalar):
            return _SCALARS[mark]
        if isinstance(mark, FixedSize):
            return fixed_array(codec_for(inner), mark.size, _element_default(inner))
    return codec_for(inner)


def _element_default(array: Any) -> Callable[[], Any] | None:
    """Of `list[T]`; None for bytes."""
    return codec_for(typing.get_args(array)[0]).default if typing.get_args(array) else None


def _none() -> None:
    return None


# Strings, bytes, descriptors


def _write_string(parcel: Parcel, value: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"str wanted, not {type(value).__name__}")
    parcel.write_string(value)


def _read_string(reader: ParcelReader) -> str:
    value = reader.read_string()
    if value is None:
        raise StatusError(Status.UNEXPECTED_NULL, "string")
    return value


def _write_bytes(parcel: Parcel, value: bytes) -> None:
    parcel.write_bytes(value)


def _read_bytes(reader: ParcelReader) -> bytes:
    value = reader.read_bytes()
    if value is None:
        raise StatusError(Status.UNEXPECTED_NULL, "byte array")
    return value


def _write_pfd_body(parcel: Parcel, value: ParcelFileDescriptor) -> None:
    if not isinstance(value, ParcelFileDescriptor):
        raise TypeError(f"ParcelFileDescriptor wanted, not {type(value).__name__}")
    value.fileno()
    parcel.data += b"\0\0\0\0"
    parcel.write_fd(value)


def _write_raw_fd(parcel: Parcel, value: ParcelFileDescriptor) -> None:
    if not isinstance(value, ParcelFileDescriptor):
        raise TypeError(f"ParcelFileDescriptor wanted, not {type(value).__name__}")
    value.fileno()
    parcel.write_fd(value)


def _read_pfd_body(reader: ParcelReader) -> ParcelFileDescriptor:
    has_channel = reader.read_int()
    fd = reader.read_fd()
    if has_channel:
        reader.read_fd().close()
    return fd


# Objects


def _object_codec(interface: type[IBinder]) -> Codec:
    """A binder's codec. Both sides refuse null, since not every peer's writing side does."""

    def write(parcel: Parcel, value: Any) -> None:
        if not isinstance(value, interface):
            text = f"{interface.__name__} wanted, not {type(value).__name__}"
            if isinstance(value, IBinder) and value._remote is not None:
                text += f"; if it is one, interface_cast({interface.__name__}, ...) says so"
            raise TypeError(text)
        parcel.write_binder(value)

    def write_nullable(parcel: Parcel, value: Any) -> None:
        if value is None:
            parcel.write_binder(None)
        else:
            write(parcel, value)

    def read_nullable(reader: ParcelReader) -> Any:
        binder = reader.read_binder()
        return None if binder is None else cast(interface, binder)

    def read(reader: ParcelReader) -> Any:
        value = read_nullable(reader)
        if value is None:
            raise StatusError(Status.UNEXPECTED_NULL, interface.__name__)
        return value

    return Codec(write, read, _none, (write_nullable, read_nullable))


# Results


def _tuple_codec(parts: list[Codec]) -> Codec:
    """A method's result followed by its out arguments."""

    def write(parcel: Parcel, values: Any) -> None:
        if not isinstance(values, tuple | list):
            raise TypeError(f"a tuple of {len(parts)} wanted, not {type(values).__name__}")
        if len(values) != len(parts):
            raise ValueError(f"{len(values)} values, must be {len(parts)}")
        for index, (part, value) in enumerate(zip(parts, values, strict=True)):
            try:
                part.write(parcel, value)
            except (StatusError, OSError):
                raise
            except Exception as error:
                raise misfit(error, f"[{index}]") from error

    def read(reader: ParcelReader) -> Any:
        return tuple([part.read(reader) for part in parts])

    return Codec(write, read, lambda: tuple(part.default() for part in parts))


_SCALARS = {
    Scalar.BYTE: BYTE,
    Scalar.CHAR: CHAR,
    Scalar.LONG: LONG,
    Scalar.LENGTH: LENGTH,
    Scalar.FLOAT: FLOAT,
    Scalar.FILE_DESCRIPTOR: Codec(_write_raw_fd, ParcelReader.read_fd, _none),
}
_cache: dict[object, Codec] = {
    bool: BOOL,
    int: INT,
    float: DOUBLE,
    str: Codec(
        _write_string, _read_string, str, (or_minus_one(_write_string), ParcelReader.read_string)
    ),
    bytes: Codec(
        _write_bytes, _read_bytes, bytes, (or_minus_one(_write_bytes), ParcelReader.read_bytes)
    ),
    ParcelFileDescriptor: with_presence(_write_pfd_body, _read_pfd_body, _none),
}
