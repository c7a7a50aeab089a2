"""AIDL's enums as Python classes."""

import enum
from typing import Any, Self

from .codec import Codec, Fixed, Reader, Writer
from .parcel import Parcel, ParcelReader
from .scalars import (
    byte_into,
    byte_out,
    read_byte,
    read_i32,
    read_i64,
    write_byte,
    write_i32,
    write_i64,
)


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
