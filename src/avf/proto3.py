"""Protobuf's wire format, as far as our proto3 messages need it; the host and the guest read with the same code.

`decode` gives what protobuf's own parser gives and refuses what that refuses. A message is a dict of the fields that
are there, by number. Source: https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from avf.named import NamedTuple

_VARINT, _FIXED64, _DELIMITED, _START_GROUP, _END_GROUP, _FIXED32 = range(6)
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MAX_DEPTH = 100
"""Messages and groups inside each other."""
_TAG_BYTES = 5
_NUMBER_BYTES = 10
_MAX_TAG = (1 << 32) - 1
_MAX_LENGTH = (1 << 31) - 1


class ProtoError(ValueError):
    """Bytes that are not a protobuf message of the wanted type."""


class Scalar(Enum):
    """The type of a field that holds one value, the last one in the data."""

    UINT32 = "uint32"
    UINT64 = "uint64"
    BOOL = "bool"
    STRING = "string"
    BYTES = "bytes"


_ZERO: dict[Scalar, int | bool | str | bytes] = {
    Scalar.UINT32: 0,
    Scalar.UINT64: 0,
    Scalar.BOOL: False,
    Scalar.STRING: "",
    Scalar.BYTES: b"",
}


class Message(NamedTuple):
    """The type of a message: its fields by number. A message that comes twice is merged field by field."""

    name: str
    fields: "Mapping[int, Scalar | Message | Repeated]"
    oneof: frozenset[int] = frozenset()
    """Of these fields only the last one in the data is there."""


class Repeated(NamedTuple):
    """The type of a field that holds a list of messages."""

    message: Message
    limit: int
    """Messages; more are an error."""


# Reading


def decode(data: bytes, kind: Message) -> dict[int, Any]:
    """The fields of a message. Scalars without a value are there with their zero; unknown fields are passed over.

    A field of another wire type than its own counts as unknown. Raises ProtoError, which names the byte.
    """
    return _decode(data, kind, _empty(kind), 0, 0)


def _empty(kind: Message) -> dict[int, Any]:
    return {
        number: [] if isinstance(field, Repeated) else _ZERO[field]
        for number, field in kind.fields.items()
        if not isinstance(field, Message) and number not in kind.oneof
    }


def _decode(
    data: bytes, kind: Message, found: dict[int, Any], base: int, depth: int
) -> dict[int, Any]:
    """Adds what is in `data`, which begins at byte `base` of the whole, to `found`."""
    for number, value, position in _fields(data, base, depth):
        field = kind.fields.get(number)
        if field is None or _is_number(field) != isinstance(value, int):
            continue
        for other in kind.oneof if number in kind.oneof else ():
            if other != number:
                found.pop(other, None)
        where = f"field {number} of {kind.name} at byte {position}"
        if isinstance(value, int):
            found[number] = _number(field, value)
        elif isinstance(field, Message):
            if number not in found:
                found[number] = _empty(field)
            _decode(value, field, found[number], position, depth + 1)
        elif isinstance(field, Repeated):
            if len(found[number]) == field.limit:
                raise ProtoError(f"{where}: more than {field.limit} of them")
            inner = field.message
            found[number].append(_decode(value, inner, _empty(inner), position, depth + 1))
        else:
            found[number] = _text(value, where) if field is Scalar.STRING else value
    return found


def _is_number(field: Scalar | Message | Repeated) -> bool:
    return field in (Scalar.UINT32, Scalar.UINT64, Scalar.BOOL)


def _number(field: Scalar | Message | Repeated, value: int) -> int | bool:
    if field is Scalar.BOOL:
        return value != 0
    return value & 0xFFFF_FFFF if field is Scalar.UINT32 else value


def _text(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ProtoError(f"{where}: a string is not UTF-8") from None


def _fields(data: bytes, base: int, depth: int) -> Iterator[tuple[int, int | bytes, int]]:
    """(number, value, byte where the value begins) of the varints and length-delimited fields outside of groups."""
    groups: list[int] = []
    position = 0
    while position < len(data):
        tag, position = _varint(data, position, base, _TAG_BYTES, _MAX_TAG)
        number, kind = tag >> 3, tag & 7
        start = position
        value: int | bytes | None = None
        if not number and not groups:
            raise ProtoError(f"field number 0 at byte {base + start}")
        if kind == _VARINT:
            value, position = _varint(data, position, base, _NUMBER_BYTES)
        elif kind == _DELIMITED:
            size, start = _varint(data, position, base, _TAG_BYTES, _MAX_LENGTH)
            position = start + size
            _check_room(data, start, size, base)
            value = b"" if groups else data[start:position]
        elif kind in _FIXED_SIZES:
            position += _FIXED_SIZES[kind]
            _check_room(data, start, _FIXED_SIZES[kind], base)
        elif kind == _START_GROUP and depth + len(groups) < _MAX_DEPTH:
            groups.append(number)
        elif kind != _END_GROUP or not groups or groups.pop() != number:
            raise ProtoError(f"wire type {kind} at byte {base + start}")
        if value is not None and not groups:
            yield number, value, base + start
    if groups:
        raise ProtoError(f"a group of field {groups[-1]} does not end")


def _varint(
    data: bytes, position: int, base: int, most: int, limit: int | None = None
) -> tuple[int, int]:
    """A number of at most `most` bytes, up to `limit` (None: its lowest 64 bits), and where it ends."""
    value = 0
    start = position
    for shift in range(0, 7 * most, 7):
        _check_room(data, position, 1, base)
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise ProtoError(f"a number longer than {most} bytes at byte {base + start}")
    if limit is not None and value > limit:
        raise ProtoError(f"{value} at byte {base + start}, at most {limit} allowed")
    return value & 0xFFFF_FFFF_FFFF_FFFF, position


def _check_room(data: bytes, position: int, size: int, base: int) -> None:
    left = len(data) - position
    if size > left:
        raise ProtoError(f"{size} bytes wanted at byte {base + position}, {left} left")


# Writing


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def uint_field(number: int, value: int) -> bytes:
    """Field of type uint32, uint64, enum or bool; empty for 0, as proto3 wants."""
    return varint(number << 3 | _VARINT) + varint(value) if value else b""


def message_field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | _DELIMITED) + varint(len(content)) + content


def bytes_field(number: int, content: bytes) -> bytes:
    """Field of type bytes; empty for b""."""
    return message_field(number, content) if content else b""


def string_field(number: int, text: str) -> bytes:
    return bytes_field(number, text.encode())
