"""Length-prefixed little-endian fields, as the signing block and the idsig use them: `lp32` = u32 length + bytes."""

import struct
from collections.abc import Iterator

from avf.apk.errors import ApkError

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_MAX_ITEMS = 64


class FieldReader:
    """Reads fields from `data`; every error is an `error` that names the field and the structure (`what`)."""

    __slots__ = ("_data", "_end", "_error", "_what", "position")

    def __init__(self, data: bytes, what: str, error: type[ApkError]) -> None:
        self._data = data
        self._what = what
        self._error = error
        self._end = len(data)
        self.position = 0

    @property
    def remaining(self) -> int:
        return self._end - self.position

    def take(self, length: int, field: str) -> bytes:
        if length > self.remaining:
            raise self._error(
                f"{self._what}: {field} of {length} bytes does not fit in the {self.remaining} left"
            )
        start = self.position
        self.position += length
        return self._data[start : self.position]

    def u8(self, field: str) -> int:
        return self.take(1, field)[0]

    def u32(self, field: str) -> int:
        return int(_U32.unpack(self.take(4, field))[0])

    def u64(self, field: str) -> int:
        return int(_U64.unpack(self.take(8, field))[0])

    def lp32(self, field: str, limit: int | None = None) -> bytes:
        length = self.u32(f"length of {field}")
        if limit is not None and length > limit:
            raise self._error(f"{self._what}: {field} has {length} bytes, at most {limit} allowed")
        return self.take(length, field)

    def inner(self, field: str) -> "FieldReader":
        """A reader over the next lp32."""
        return FieldReader(self.lp32(field), field, self._error)

    def items(self, field: str) -> "Iterator[FieldReader]":
        """Readers over the lp32 items that fill the next lp32, at most 64."""
        sequence = self.inner(field)
        for _ in range(_MAX_ITEMS):
            if not sequence.remaining:
                return
            yield sequence.inner(f"{field} item")
        if sequence.remaining:
            raise self._error(f"{self._what}: more than {_MAX_ITEMS} {field}")


def u32(value: int) -> bytes:
    return _U32.pack(value)


def u64(value: int) -> bytes:
    return _U64.pack(value)


def lp32(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data


def lp32_items(items: list[bytes]) -> bytes:
    """One lp32 filled with lp32 items."""
    return lp32(b"".join(map(lp32, items)))
