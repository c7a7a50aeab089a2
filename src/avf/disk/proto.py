"""The little of protobuf's wire format that disks need: varints and length-delimited fields (proto3)."""

from collections.abc import Iterator

VARINT = 0
DELIMITED = 2
_FIXED_SIZES = {1: 8, 5: 4}
_MAX_FIELD = (1 << 29) - 1


class ProtoError(ValueError):
    """Bytes that are not a protobuf message."""


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def uint_field(number: int, value: int) -> bytes:
    """Field of type uint32, uint64, enum or bool; empty for 0, as proto3 wants."""
    return varint(number << 3 | VARINT) + varint(value) if value else b""


def message_field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | DELIMITED) + varint(len(content)) + content


def bytes_field(number: int, content: bytes) -> bytes:
    """Field of type bytes; empty for b""."""
    return message_field(number, content) if content else b""


def string_field(number: int, text: str) -> bytes:
    return bytes_field(number, text.encode())


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every varint and length-delimited field in order; fields of fixed size are passed over.

    Raises ProtoError where a field does not fit into `data`.
    """
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, kind = key >> 3, key & 7
        if not 0 < number <= _MAX_FIELD:
            raise ProtoError(f"field number {number} at byte {position}")
        if kind == VARINT:
            value, position = _read_varint(data, position)
            yield number, value
        elif kind == DELIMITED:
            size, position = _read_varint(data, position)
            _check_room(data, position, size)
            yield number, data[position : position + size]
            position += size
        elif kind in _FIXED_SIZES:
            _check_room(data, position, _FIXED_SIZES[kind])
            position += _FIXED_SIZES[kind]
        else:
            raise ProtoError(f"wire type {kind} at byte {position}")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        _check_room(data, position, 1)
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise ProtoError(f"varint longer than 10 bytes at byte {position}")


def _check_room(data: bytes, position: int, size: int) -> None:
    if size > len(data) - position:
        raise ProtoError(f"{size} bytes wanted at byte {position}, {len(data) - position} left")


def as_uint(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ProtoError("a number is encoded as bytes")
    return value


def as_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ProtoError("bytes are encoded as a number")
    return value


def as_text(value: int | bytes) -> str:
    try:
        return as_bytes(value).decode()
    except UnicodeDecodeError as error:
        raise ProtoError("a string is not UTF-8") from error
