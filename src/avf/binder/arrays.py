"""AIDL's arrays: of any length or a fixed one, packed or element by element."""

import struct
from collections.abc import Callable
from typing import Any

from .codec import Codec, Reader, Writer, or_minus_one
from .errors import Status, StatusError
from .parcel import Parcel, ParcelReader, bytes_of, misfit
from .scalars import unfit_element


def _check_list(value: object) -> None:
    no_list = isinstance(value, str | bytes | bytearray | dict | set | frozenset)
    if no_list or not hasattr(value, "__len__"):
        raise TypeError(f"list wanted, not {type(value).__name__}")


def fixed_array(array: Codec, size: int, element: Callable[[], Any] | None) -> Codec:
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
        (or_minus_one(write), lambda reader: checked(read_array_or_null(reader))),
    )


def list_codec(element: Codec) -> Codec:
    write, read_or_null = _packed_list(element) if element.packed else _plain_list(element)

    def read(reader: ParcelReader) -> Any:
        value = read_or_null(reader)
        if value is None:
            raise StatusError(Status.UNEXPECTED_NULL, "array")
        return value

    return Codec(write, read, list, (or_minus_one(write), read_or_null))


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
            raise unfit_element(letter, value) from None
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
