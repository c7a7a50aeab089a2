"""What a binary AndroidManifest.xml says of SDKs. Source: ResourceTypes.h of AOSP's frameworks/base.

The document is chunks of `u16 type, u16 header size, u32 size`. Only the string pool, the resource map and the starts
and ends of elements are looked at. Errors are EntryErrors without the entry's name.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from avf.apk.errors import EntryError

MAX_MANIFEST = 8 << 20
_MAX_CHUNKS = 1 << 18
_MAX_STRING = 1 << 10
_XML, _POOL, _RESOURCE_MAP = 0x0003, 0x0001, 0x0180
_START_ELEMENT, _END_ELEMENT = 0x0102, 0x0103
_CHUNK = struct.Struct("<HHI")
_ATTRIBUTE = struct.Struct("<3IHBBI")
_UTF8 = 1 << 8
_TYPE_STRING = 0x03
_INTS = range(0x10, 0x20)
_MIN_SDK, _TARGET_SDK = 0x0101020C, 0x01010270
_CODENAMES = {
    "C": 2,
    "D": 3,
    "E": 4,
    "F": 7,
    "G": 8,
    "H": 10,
    "I": 13,
    "J": 15,
    "K": 18,
    "L": 20,
    "M": 22,
    "N": 23,
    "O": 25,
    "P": 27,
    "Q": 28,
    "R": 29,
    "S": 30,
    "T": 32,
    "U": 33,
    "V": 34,
}
"""The release before that of a codename, told by its first letter, as apksigner takes it."""


class ManifestSdks(NamedTuple):
    """The SDKs of a manifest's `uses-sdk`. `target_sdk` is None where none is named."""

    min_sdk: int
    target_sdk: int | None


def read_manifest(data: bytes) -> ManifestSdks:
    """The highest minSdkVersion (1 if there is none) and targetSdkVersion of the `uses-sdk` elements."""
    document = _Document(data)
    found = list(document.uses_sdk())
    lows = [item[_MIN_SDK] for item in found if _MIN_SDK in item]
    targets = [item[_TARGET_SDK] for item in found if _TARGET_SDK in item]
    return ManifestSdks(max(lows, default=1), max(targets, default=None))


class _Document:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pool = b""
        self._map = b""

    def uses_sdk(self) -> Iterator[dict[int, int]]:
        """The SDKs by resource ID of each `uses-sdk` right below the root."""
        depth = 0
        for kind, start, header, end in self._chunks():
            if kind == _POOL and not self._pool:
                self._pool = self._data[start:end]
            elif kind == _RESOURCE_MAP:
                self._map = self._data[start + header : end]
            elif kind == _START_ELEMENT:
                depth += 1
                if depth == 2 and self._name(start + header, end) == "uses-sdk":
                    yield dict(self._sdks(start + header, end))
            elif kind == _END_ELEMENT:
                depth -= 1

    def _chunks(self) -> Iterator[tuple[int, int, int, int]]:
        """(type, start, header size, end) of the chunks in the document."""
        kind, position, size = self._unpack(_CHUNK, 0, len(self._data))
        if kind != _XML or not 8 <= position <= size <= len(self._data):
            raise EntryError("is no binary XML")
        for _ in range(_MAX_CHUNKS):
            if position == size:
                return
            kind, header, length = self._unpack(_CHUNK, position, size)
            if not 8 <= header <= length <= size - position:
                raise EntryError(f"has a bad chunk at byte {position}")
            yield kind, position, header, position + length
            position += length
        raise EntryError(f"has more than {_MAX_CHUNKS} chunks")

    def _unpack(self, layout: struct.Struct, position: int, end: int) -> tuple[int, ...]:
        if position < 0 or end - position < layout.size:
            raise EntryError(f"is cut short at byte {position}")
        return layout.unpack_from(self._data, position)

    def _name(self, body: int, end: int) -> str:
        _, name = self._unpack(struct.Struct("<2I"), body, end)
        return self._string(name)

    def _sdks(self, body: int, end: int) -> Iterator[tuple[int, int]]:
        start, size, count = self._unpack(struct.Struct("<3H"), body + 8, end)
        if count and size < _ATTRIBUTE.size:
            raise EntryError("has attributes that are too short")
        for number in range(count):
            at = body + start + number * size
            _, name, _, _, _, kind, value = self._unpack(_ATTRIBUTE, at, end)
            resource = int.from_bytes(self._map[4 * name : 4 * name + 4], "little")
            if resource in (_MIN_SDK, _TARGET_SDK):
                yield resource, self._sdk(kind, value)

    def _sdk(self, kind: int, value: int) -> int:
        if kind in _INTS:
            return value - (1 << 32) if value >> 31 else value
        if kind != _TYPE_STRING:
            raise EntryError("has an SDK version that is neither a number nor a codename")
        text = self._string(value)
        if text.isascii() and text.isdigit() and len(text) < 10:
            return int(text)
        if text[:1] in _CODENAMES:
            return _CODENAMES[text[:1]]
        raise EntryError(f"has an unknown SDK version {text!r}")

    def _string(self, index: int) -> str:
        """A string of the pool, "" for one that is longer than any of interest."""
        pool = self._pool
        if len(pool) < 28:
            raise EntryError("has no string pool")
        count, _, flags, strings, _ = struct.unpack_from("<5I", pool, 8)
        header = int.from_bytes(pool[2:4], "little")
        at = header + 4 * index
        if index >= count or at + 4 > len(pool):
            raise EntryError(f"names string {index} of {count}")
        start = strings + int.from_bytes(pool[at : at + 4], "little")
        if flags & _UTF8:
            return _utf8(pool[start : start + _MAX_STRING])
        return _utf16(pool[start : start + _MAX_STRING])


def _utf8(data: bytes) -> str:
    """Its length in characters, its length in bytes, each in one byte or two, and the bytes."""
    skip = 2 if data[:1] and data[0] & 0x80 else 1
    body = skip + (2 if data[skip : skip + 1] and data[skip] & 0x80 else 1)
    text, end, _ = data[body:].partition(b"\0")
    return text.decode("utf-8", "replace") if end else ""


def _utf16(data: bytes) -> str:
    units = int.from_bytes(data[:2], "little")
    return (
        data[2 : 2 + 2 * units].decode("utf-16-le", "replace") if units < _MAX_STRING // 2 else ""
    )
