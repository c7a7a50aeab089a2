"""Values in ASN.1's basic encoding rules (X.690), as PKCS #7 files have them: lengths may be indefinite or long."""

from collections.abc import Iterator
from typing import NamedTuple

UNIVERSAL, CONTEXT = 0, 2
BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID, SEQUENCE, SET = 1, 2, 3, 4, 5, 6, 16, 17
_MAX_DEPTH = 32
_MAX_LENGTH_BYTES = 4


class BadBer(Exception):
    """Something else stands there than the structure asks for."""


class Value(NamedTuple):
    """One value: its tag, what is in it, and all of its bytes."""

    tag_class: int
    number: int
    contents: bytes
    encoded: bytes

    def expect(self, number: int, tag_class: int = UNIVERSAL) -> "Value":
        """This value, which must have the tag."""
        if (self.tag_class, self.number) != (tag_class, number):
            raise BadBer(f"found tag {self.number} where tag {number} belongs")
        return self

    @property
    def integer(self) -> int:
        return int.from_bytes(self.expect(INTEGER).contents, "big", signed=True)

    @property
    def oid(self) -> str:
        """Dotted."""
        return _dotted(self.expect(OID).contents)


class Fields:
    """The values in a SEQUENCE, taken one by one. What follows the last one taken is ignored, unless `end` asks."""

    def __init__(self, contents: bytes) -> None:
        self._values = values(contents)
        self._next = next(self._values, None)

    def take(self, number: int | None = None, tag_class: int = UNIVERSAL) -> Value:
        """The next value, with the tag if one is asked for."""
        value = self._next
        if value is None:
            raise BadBer("a structure ends early")
        if number is not None:
            value.expect(number, tag_class)
        self._next = next(self._values, None)
        return value

    def optional(self, number: int, tag_class: int = CONTEXT) -> Value | None:
        """The next value if it has the tag."""
        value = self._next
        if value is None or (value.tag_class, value.number) != (tag_class, number):
            return None
        return self.take()

    def end(self) -> None:
        """BadBer if another value follows."""
        if self._next is not None:
            raise BadBer("a structure goes on")


def first(data: bytes) -> Value:
    """The value at the beginning of `data`; bytes behind it are ignored."""
    for value in values(data):
        return value
    raise BadBer("there is nothing")


def values(data: bytes) -> Iterator[Value]:
    """The values that fill `data`."""
    position = 0
    while position < len(data):
        tag_class, number, start, end, after = _bounds(data, position, 0)
        yield Value(tag_class, number, data[start:end], data[position:after])
        position = after


def _bounds(data: bytes, start: int, depth: int) -> tuple[int, int, int, int, int]:
    """(class, tag number, start and end of the contents, end) of the value at `start`."""
    tag_class, constructed = data[start] >> 6, bool(data[start] & 0x20)
    number, position = _number(data, start)
    length = _byte(data, position)
    position += 1
    if length == 0x80:
        end = _indefinite_end(data, position, constructed, depth)
        return tag_class, number, position, end, end + 2
    if length > 0x80:
        count = length & 0x7F
        if count > _MAX_LENGTH_BYTES or position + count > len(data):
            raise BadBer(f"bad length at byte {start}")
        length = int.from_bytes(data[position : position + count], "big")
        position += count
    end = position + length
    if end > len(data):
        raise BadBer(f"the value at byte {start} is cut short")
    return tag_class, number, position, end, end


def _number(data: bytes, position: int) -> tuple[int, int]:
    """A tag number and where it ends."""
    number = data[position] & 0x1F
    position += 1
    if number != 0x1F:
        return number, position
    number = 0
    while number < 1 << 24:
        byte = _byte(data, position)
        position += 1
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, position
    raise BadBer("a tag number is too large")


def _indefinite_end(data: bytes, position: int, constructed: bool, depth: int) -> int:
    """Where the contents end: before two zeros."""
    if not constructed:
        end = data.find(b"\0\0", position)
        if end < 0:
            raise BadBer("a value of indefinite length has no end")
        return end
    if depth == _MAX_DEPTH:
        raise BadBer(f"more than {_MAX_DEPTH} values of indefinite length in each other")
    while position < len(data):
        if data.startswith(b"\0\0", position):
            return position
        position = _bounds(data, position, depth + 1)[4]
    raise BadBer("a value of indefinite length has no end")


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise BadBer("a value is cut short")
    return data[position]


def _dotted(data: bytes) -> str:
    if not data or data[-1] & 0x80:
        raise BadBer("an object identifier is cut short")
    numbers, number = [], 0
    for byte in data:
        number = number << 7 | byte & 0x7F
        if number >> 63:
            raise BadBer("an object identifier has a number that is too large")
        if byte < 0x80:
            numbers.append(number)
            number = 0
    root = min(numbers[0] // 40, 2)
    return ".".join(map(str, [root, numbers[0] - 40 * root, *numbers[1:]]))
