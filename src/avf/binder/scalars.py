"""AIDL's numbers, booleans and characters."""

import struct
from typing import Any

from . import wire
from .codec import Codec, Fixed, Reader, Writer
from .errors import Status, StatusError
from .parcel import Parcel, ParcelReader, misfit


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


MAX_LENGTH = wire.MAX_BODY_2
"""Elements of an array that comes out of a method: more cannot be sent, for none takes less than a byte."""

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


def unfit_element(letter: str, values: list[Any]) -> TypeError | ValueError:
    for index, value in enumerate(values):
        try:
            struct.pack(letter, value)
        except (struct.error, OverflowError):
            return misfit(_unfit(letter, value), f"[{index}]")
    return ValueError("the elements changed while they were written")


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


def _write_length(parcel: Parcel, value: int) -> None:
    if isinstance(value, int) and not 0 <= value <= MAX_LENGTH:
        raise ValueError(f"{value} is no length of an array that can be sent back")
    write_i32(parcel, value)


def _read_length(reader: ParcelReader) -> int:
    """-1, which Java sends for an array that is null, counts as 0. Raises StatusError."""
    count = reader.read_int()
    if not -1 <= count <= MAX_LENGTH:
        raise StatusError(Status.BAD_VALUE, f"room for {count} elements in an array of the answer")
    return max(count, 0)


BOOL = Codec(_write_bool, _read_bool, bool, fixed=Fixed("i", _bool_out, bool))
BYTE = Codec(write_byte, read_byte, int, packed="b", fixed=Fixed("i", byte_out, byte_into))
CHAR = Codec(_write_char, _read_char, lambda: "\0", fixed=Fixed("i", _char_out, _char_into))
LENGTH = Codec(_write_length, _read_length, int)
INT = Codec(write_i32, read_i32, int, packed="i", fixed=Fixed("i"))
LONG = Codec(write_i64, read_i64, int, packed="q", fixed=Fixed("q"))
FLOAT = Codec(*_fixed("f"), float, packed="f", fixed=Fixed("f"))
DOUBLE = Codec(*_fixed("d"), float, packed="d", fixed=Fixed("d"))
