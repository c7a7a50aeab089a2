"""From type annotations to functions that write and read: built once per type, free of introspection afterwards."""

import enum
import struct
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

from .errors import Status, StatusError
from .fd import ParcelFileDescriptor
from .objects import IBinder, cast
from .parcel import Parcel, ParcelReader, bytes_of, misfit

Writer = Callable[[Parcel, Any], None]
Reader = Callable[[ParcelReader], Any]


class Scalar(enum.Enum):
    """Marks an `Annotated` Python type as one of AIDL's that Python has no own type for."""

    BYTE = "byte"
    CHAR = "char"
    LONG = "long"
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
Float = Annotated[float, Scalar.FLOAT]
"""AIDL float: 32 bits. (Plain `float` is AIDL double.)"""
FileDescriptor = Annotated[ParcelFileDescriptor, Scalar.FILE_DESCRIPTOR]
"""AIDL FileDescriptor: a descriptor without what AIDL's ParcelFileDescriptor has around it. Never null."""


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
        return _list_codec(codec_for(typing.get_args(annotation)[0]))
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
            return _fixed_codec(codec_for(inner), mark.size, _element_default(inner))
    return codec_for(inner)


def _none() -> None:
    return None


# Scalars


def _fixed(letter: str) -> tuple[Writer, Reader]:
    shape = struct.Struct("<" + letter)
    pack, unpack_from, size = shape.pack, shape.unpack_from, shape.size

    def write(parcel: Parcel, value: Any) -> None:
        try:
            parcel.data += pack(value)
        except (struct.error, OverflowError):
            raise _unfit(letter, value) from None

    def read(reader: ParcelReader) -> Any:
        pos = reader.pos
        value = unpack_from(reader.buf, pos)[0]
        reader.pos = pos + size
        return value

    return write, read


_NAMES = {"b": "byte", "i": "int", "q": "long", "f": "float", "d": "double"}


def _unfit(letter: str, value: object) -> TypeError | ValueError:
    """Why a number cannot be packed."""
    wanted = float if letter in "fd" else int
    if not isinstance(value, int | wanted):
        return TypeError(f"{wanted.__name__} wanted, not {type(value).__name__}")
    if isinstance(value, int) and value.bit_length() > 64:
        return ValueError(
            f"a number of {value.bit_length()} bits is out of range for {_NAMES[letter]}"
        )
    return ValueError(f"{value} is out of range for {_NAMES[letter]}")


def _unfit_element(letter: str, values: list[Any]) -> TypeError | ValueError:
    for index, value in enumerate(values):
        try:
            struct.pack(letter, value)
        except (struct.error, OverflowError):
            return misfit(_unfit(letter, value), f"[{index}]")
    return ValueError("the elements changed while they were written")


def _check_list(value: object) -> None:
    no_list = isinstance(value, str | bytes | bytearray | dict | set | frozenset)
    if no_list or not hasattr(value, "__len__"):
        raise TypeError(f"list wanted, not {type(value).__name__}")


write_i32, read_i32 = _fixed("i")
write_i64, read_i64 = _fixed("q")


def _bool_out(value: bool) -> int:
    if value is not True and value is not False:
        raise TypeError(f"bool wanted, not {type(value).__name__}")
    return value


def _write_bool(parcel: Parcel, value: bool) -> None:
    parcel.data += b"\1\0\0\0" if _bool_out(value) else b"\0\0\0\0"


def _read_bool(reader: ParcelReader) -> bool:
    return reader.read_int() != 0


def byte_out(value: int) -> int:
    """Raises TypeError or ValueError for what is no byte."""
    if not isinstance(value, int) or not -128 <= value <= 127:
        raise _unfit("b", value)
    return value


def byte_into(number: int) -> int:
    """The byte that an int from a parcel stands for."""
    return ((number + 128) & 0xFF) - 128


def write_byte(parcel: Parcel, value: int) -> None:
    parcel.write_int(byte_out(value))


def read_byte(reader: ParcelReader) -> int:
    return byte_into(reader.read_int())


def _char_out(value: str) -> int:
    if not isinstance(value, str):
        raise TypeError(f"str wanted, not {type(value).__name__}")
    if len(value) != 1 or value > "\uffff":
        raise ValueError("a char is one UTF-16 unit")
    return ord(value)


def _char_into(number: int) -> str:
    return chr(number & 0xFFFF)


def _write_char(parcel: Parcel, value: str) -> None:
    parcel.write_int(_char_out(value))


def _read_char(reader: ParcelReader) -> str:
    return _char_into(reader.read_int())


_BYTE, _CHAR = Fixed("i", byte_out, byte_into), Fixed("i", _char_out, _char_into)
_SCALARS = {
    Scalar.BYTE: Codec(write_byte, read_byte, int, packed="b", fixed=_BYTE),
    Scalar.CHAR: Codec(_write_char, _read_char, lambda: "\0", fixed=_CHAR),
    Scalar.LONG: Codec(write_i64, read_i64, int, packed="q", fixed=Fixed("q")),
    Scalar.FLOAT: Codec(*_fixed("f"), float, packed="f", fixed=Fixed("f")),
}


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


def _or_minus_one(write: Writer) -> Writer:
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


_SCALARS[Scalar.FILE_DESCRIPTOR] = Codec(_write_raw_fd, ParcelReader.read_fd, _none)


def _read_pfd_body(reader: ParcelReader) -> ParcelFileDescriptor:
    has_channel = reader.read_int()
    fd = reader.read_fd()
    if has_channel:
        reader.read_fd().close()
    return fd


# Objects


def _object_codec(interface: type[IBinder]) -> Codec:
    """A binder's codec. Refusing null is the reading side's part."""

    def write(parcel: Parcel, value: Any) -> None:
        if value is not None and not isinstance(value, interface):
            text = f"{interface.__name__} wanted, not {type(value).__name__}"
            if isinstance(value, IBinder) and value._remote is not None:
                text += f"; if it is one, interface_cast({interface.__name__}, ...) says so"
            raise TypeError(text)
        parcel.write_binder(value)

    def read_nullable(reader: ParcelReader) -> Any:
        binder = reader.read_binder()
        return None if binder is None else cast(interface, binder)

    def read(reader: ParcelReader) -> Any:
        value = read_nullable(reader)
        if value is None:
            raise StatusError(Status.UNEXPECTED_NULL, interface.__name__)
        return value

    return Codec(write, read, _none, (write, read_nullable))


# Arrays


def _element_default(array: Any) -> Callable[[], Any] | None:
    """Of `list[T]`; None for bytes."""
    return codec_for(typing.get_args(array)[0]).default if typing.get_args(array) else None


def _fixed_codec(array: Codec, size: int, element: Callable[[], Any] | None) -> Codec:
    write_array, read_array = array.write, array.read

    def write(parcel: Parcel, value: Any) -> None:
        if element is None:
            value = bytes_of(value)
        else:
            _check_list(value)
        if len(value) != size:
            raise ValueError(f"{len(value)} elements, must be {size}")
        write_array(parcel, value)

    def checked(value: Any) -> Any:
        if value is not None and len(value) != size:
            raise StatusError(Status.BAD_VALUE, f"{len(value)} elements, must be {size}")
        return value

    def read(reader: ParcelReader) -> Any:
        return checked(read_array(reader))

    read_array_or_null = array.nullable[1] if array.nullable else read_array

    def default() -> Any:
        return bytes(size) if element is None else [element() for _ in range(size)]

    return Codec(
        write,
        read,
        default,
        (_or_minus_one(write), lambda reader: checked(read_array_or_null(reader))),
    )


def _list_codec(element: Codec) -> Codec:
    write, read_or_null = _packed_list(element) if element.packed else _plain_list(element)

    def read(reader: ParcelReader) -> Any:
        value = read_or_null(reader)
        if value is None:
            raise StatusError(Status.UNEXPECTED_NULL, "array")
        return value

    return Codec(write, read, list, (_or_minus_one(write), read_or_null))


def _plain_list(element: Codec) -> tuple[Writer, Reader]:
    write_element, read_element = element.write, element.read

    def write(parcel: Parcel, value: Any) -> None:
        _check_list(value)
        parcel.write_int(len(value))
        index = 0
        try:
            for item in value:
                write_element(parcel, item)
                index += 1
        except (StatusError, OSError):
            raise
        except Exception as error:
            raise misfit(error, f"[{index}]") from error

    def read(reader: ParcelReader) -> Any:
        count = reader.read_count(4)
        return [read_element(reader) for _ in range(count)] if count >= 0 else None

    return write, read


def _check_elements(check: Callable[[Any], None], values: Any) -> None:
    for index, value in enumerate(values):
        try:
            check(value)
        except TypeError as error:
            raise misfit(error, f"[{index}]") from None


def _packed_list(element: Codec) -> tuple[Writer, Reader]:
    letter, convert, check = element.packed, element.convert, element.check
    size = struct.calcsize("<" + letter)

    def write(parcel: Parcel, value: Any) -> None:
        _check_list(value)
        count = len(value)
        if check is not None:
            _check_elements(check, value)
        try:
            parcel.data += struct.pack(f"<i{count}{letter}", count, *value)
        except (struct.error, OverflowError):
            raise _unfit_element(letter, value) from None
        parcel.data += bytes(-count * size & 3)

    def read(reader: ParcelReader) -> Any:
        count = reader.read_count(size)
        if count < 0:
            return None
        pos = reader.pos
        after = (pos + count * size + 3) & ~3
        if after > reader.end:
            raise StatusError(Status.NOT_ENOUGH_DATA, "array without its padding")
        values = struct.unpack_from(f"<{count}{letter}", reader.buf, pos)
        reader.pos = after
        return list(values) if convert is None else [convert(value) for value in values]

    return write, read


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


_cache: dict[object, Codec] = {
    bool: Codec(_write_bool, _read_bool, bool, fixed=Fixed("i", _bool_out, bool)),
    int: Codec(write_i32, read_i32, int, packed="i", fixed=Fixed("i")),
    float: Codec(*_fixed("d"), float, packed="d", fixed=Fixed("d")),
    str: Codec(
        _write_string, _read_string, str, (_or_minus_one(_write_string), ParcelReader.read_string)
    ),
    bytes: Codec(
        _write_bytes, _read_bytes, bytes, (_or_minus_one(_write_bytes), ParcelReader.read_bytes)
    ),
    ParcelFileDescriptor: with_presence(_write_pfd_body, _read_pfd_body, _none),
}
