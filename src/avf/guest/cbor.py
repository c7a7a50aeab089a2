"""The little CBOR (RFC 8949) the instance image and the DICE inputs need.

Integers, byte and text strings, arrays, maps, booleans and null; definite lengths only.
"""

from typing import Any

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _SIMPLE = 0, 1, 2, 3, 4, 5, 7
_FALSE, _TRUE, _NULL = 20, 21, 22
_MAX_DEPTH = 16
_MAX_NUMBER = (1 << 64) - 1


class CborError(ValueError):
    """Not one well-formed item of the kinds known here."""


def encode(value: Any) -> bytes:
    """Canonical lengths; maps in the order given. Raises CborError for a type it does not know."""
    if value is None:
        return bytes([_SIMPLE << 5 | _NULL])
    if isinstance(value, bool):
        return bytes([_SIMPLE << 5 | (_TRUE if value else _FALSE)])
    if isinstance(value, int):
        return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        raw = value.encode()
        return _head(_TEXT, len(raw)) + raw
    if isinstance(value, list):
        return _head(_ARRAY, len(value)) + b"".join(map(encode, value))
    if isinstance(value, dict):
        return _head(_MAP, len(value)) + b"".join(
            encode(key) + encode(item) for key, item in value.items()
        )
    raise CborError(f"{type(value).__name__} has no CBOR form here")


def decode(data: bytes) -> Any:
    """The one item `data` is. Raises CborError."""
    value, position = _decode(data, 0, 0)
    if position != len(data):
        raise CborError(f"{len(data) - position} bytes follow the item")
    return value


def _head(kind: int, number: int) -> bytes:
    if number > _MAX_NUMBER:
        raise CborError("an integer has more than 64 bits")
    if number < 24:
        return bytes([kind << 5 | number])
    exponent = 0 if number < 1 << 8 else 1 if number < 1 << 16 else 2 if number < 1 << 32 else 3
    return bytes([kind << 5 | 24 + exponent]) + number.to_bytes(1 << exponent, "big")


def _decode(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH:
        raise CborError("nested too deeply")
    kind, number, position = _decode_head(data, position)
    if kind == _UNSIGNED:
        return number, position
    if kind == _NEGATIVE:
        return -1 - number, position
    if kind in (_BYTES, _TEXT):
        return _decode_string(data, position, kind, number)
    if kind in (_ARRAY, _MAP):
        return _decode_items(data, position, depth, kind, number)
    if kind == _SIMPLE and number in (_FALSE, _TRUE, _NULL):
        return {_FALSE: False, _TRUE: True, _NULL: None}[number], position
    raise CborError(f"major type {kind} is not known here")


def _decode_head(data: bytes, position: int) -> tuple[int, int, int]:
    if position >= len(data):
        raise CborError("an item is cut short")
    kind, number = data[position] >> 5, data[position] & 0x1F
    position += 1
    if number < 24:
        return kind, number, position
    if number > 27:
        raise CborError("indefinite lengths are not known here")
    size = 1 << number - 24
    if position + size > len(data):
        raise CborError("a number is cut short")
    return kind, int.from_bytes(data[position : position + size], "big"), position + size


def _decode_string(data: bytes, position: int, kind: int, size: int) -> tuple[Any, int]:
    if size > len(data) - position:
        raise CborError("a string is cut short")
    raw = data[position : position + size]
    if kind == _BYTES:
        return raw, position + size
    try:
        return raw.decode(), position + size
    except UnicodeDecodeError:
        raise CborError("a text string is not UTF-8") from None


def _decode_items(data: bytes, position: int, depth: int, kind: int, count: int) -> tuple[Any, int]:
    if count > len(data) - position:
        raise CborError("a collection claims more items than there are bytes")
    items = []
    for _ in range(count if kind == _ARRAY else 2 * count):
        item, position = _decode(data, position, depth + 1)
        items.append(item)
    if kind == _ARRAY:
        return items, position
    keys = items[::2]
    if not all(isinstance(key, (str, int)) for key in keys) or len(set(keys)) != count:
        raise CborError("a map has keys that are no text or integer, or the same key twice")
    return dict(zip(keys, items[1::2], strict=True)), position
