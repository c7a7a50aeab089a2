"""Length-prefixed little-endian fields, as the signing block and the idsig use them: `lp32` = u32 length + bytes."""

import struct
from collections.abc import Iterator

from avf.apk.errors import ApkError

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_MAX_ITEMS = 64


class FieldReader:
    """Reads fields from `data`; every error is an `error` that names the field and the structure (`what`).

    `base` is where in the file the data begin, for the offsets in errors.
    """

    __slots__ = ("_base", "_data", "_end", "_error", "_what", "position")

    def __init__(
        self, data: bytes, what: str, error: type[ApkError], base: int | None = None
    ) -> None:
        self._data = data
        self._what = what
        self._error = error
        self._base = base
        self._end = len(data)
        self.position = 0

    @property
    def offset(self) -> int | None:
        """Where in the file the next field begins."""
        return None if self._base is None else self._base + self.position

    def failure(self, reason: str, offset: int | None = None) -> ApkError:
        """The error to raise about the field at `offset`, or the next one."""
        where = self.offset if offset is None else offset
        return self._error(f"{self._what}: {reason}", offset=where)

    @property
    def remaining(self) -> int:
        return self._end - self.position

    def take(self, length: int, field: str) -> bytes:
        if length > self.remaining:
            raise self.failure(
                f"{field} of {length} bytes does not fit in the {self.remaining} left"
            )
        start = self.position
        self.position += length
        return self._data[start : self.position]

    def u8(self, field: str) -> int:
        return self.take(1, field)[0]

    def u32(self, field: str) -> int:
        return int(_U32.unpack(self.take(4, field))[0])

    def lp32(self, field: str, limit: int | None = None) -> bytes:
        start = self.offset
        length = self.u32(f"length of {field}")
        if limit is not None and length > limit:
            raise self.failure(f"{field} has {length} bytes, at most {limit} allowed", start)
        return self.take(length, field)

    def inner(self, field: str) -> "FieldReader":
        """A reader over the next lp32."""
        data = self.lp32(field)
        end = self.offset
        return FieldReader(data, field, self._error, None if end is None else end - len(data))

    def items(self, field: str) -> "Iterator[FieldReader]":
        """Readers over the lp32 items that fill the next lp32, at most 64."""
        sequence = self.inner(field)
        for _ in range(_MAX_ITEMS):
            if not sequence.remaining:
                return
            yield sequence.inner(f"{field} item")
        if sequence.remaining:
            raise self.failure(f"more than {_MAX_ITEMS} {field}", sequence.offset)


def u32(value: int) -> bytes:
    return _U32.pack(value)


def u64(value: int) -> bytes:
    return _U64.pack(value)


def lp32(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data


def lp32_items(items: list[bytes]) -> bytes:
    """One lp32 filled with lp32 items."""
    return lp32(b"".join(map(lp32, items)))
