"""What a binary AndroidManifest.xml says of package and SDKs. Source: ResourceTypes.h of AOSP's frameworks/base.

The document is chunks of `u16 type, u16 header size, u32 size`. Only the string pool, the resource map and the starts
and ends of elements are looked at. Errors are EntryErrors without the entry's name.
"""

import struct
from collections.abc import Iterator

from avf.apk.errors import EntryError
from avf.named import NamedTuple

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
_NUMBERS = range(0x10, 0x12)
"""Decimal and hexadecimal ones."""
_NONE = 0xFFFFFFFF
_MIN_SDK, _TARGET_SDK, _DEBUGGABLE = 0x0101020C, 0x01010270, 0x0101000F
_VERSION_CODE, _VERSION_CODE_MAJOR = 0x0101021B, 0x01010576
_MAX_PACKAGE = 255
_TARGET_SANDBOX = 0x0101054C
_WANTED = {
    (1, "manifest"): (_TARGET_SANDBOX,),
    (2, "uses-sdk"): (_MIN_SDK, _TARGET_SDK),
    (2, "application"): (_DEBUGGABLE,),
}
"""By depth and name of the element."""
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
    debuggable: bool = False
    """Of its `application`."""
    target_sandbox: int = 1
    """Of the `manifest` itself."""


class ManifestPackage(NamedTuple):
    """The package that a manifest names, and its version: versionCodeMajor << 32 | versionCode."""

    name: str
    version: int


class _Attribute(NamedTuple):
    """`resource`: the ID of its name; `is_plain`: it has no namespace."""

    name: int
    resource: int
    is_plain: bool
    kind: int
    value: int


def read_package(data: bytes) -> ManifestPackage:
    """The attributes of the root element; a version that is not given is 0."""
    return _Document(data).package()


def read_manifest(data: bytes) -> ManifestSdks:
    """The highest minSdkVersion and targetSdkVersion of the `uses-sdk` elements.

    The former is 1 if there is none, or one below; of attributes that an element has twice the first counts.
    """
    document = _Document(data)
    found = list(document.elements())
    lows = [item[_MIN_SDK] for item in found if _MIN_SDK in item]
    targets = [item[_TARGET_SDK] for item in found if _TARGET_SDK in item]
    debuggable = any(item.get(_DEBUGGABLE) for item in found)
    sandbox = next((item[_TARGET_SANDBOX] for item in found if _TARGET_SANDBOX in item), 1)
    return ManifestSdks(max([1, *lows]), max(targets, default=None), debuggable, sandbox)


class _Document:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pool = b""
        self._map = b""

    def elements(self) -> Iterator[dict[int, int]]:
        """The values by resource ID of `manifest` and of each `uses-sdk` and `application` right below it."""
        for depth, body, end in self._elements():
            name = self._name(body, end) if depth <= 2 else ""
            wanted = _WANTED.get((depth, name), ())
            if wanted:
                values: dict[int, int] = {}
                for resource, value in self._values(body, end, wanted):
                    values.setdefault(resource, value)
                yield values

    def package(self) -> ManifestPackage:
        """What the root element says of itself."""
        for _, body, end in self._elements():
            if self._name(body, end) != "manifest":
                break
            attributes = list(self._attributes(body, end))
            low = self._version(attributes, _VERSION_CODE, "versionCode")
            major = self._version(attributes, _VERSION_CODE_MAJOR, "versionCodeMajor")
            return ManifestPackage(self._package_name(attributes), major << 32 | low)
        raise EntryError("has no element 'manifest' at its root")

    def _package_name(self, attributes: list[_Attribute]) -> str:
        found = [
            item for item in attributes if item.is_plain and self._string(item.name) == "package"
        ]
        if len(found) != 1:
            raise EntryError(f"names its package {len(found)} times")
        name = self._string(found[0].value) if found[0].kind == _TYPE_STRING else ""
        plain = name.isascii() and name.replace("_", "").replace(".", "").isalnum()
        if not plain or len(name) > _MAX_PACKAGE:
            raise EntryError(f"has a bad package name {name!r}")
        return name

    @staticmethod
    def _version(attributes: list[_Attribute], resource: int, name: str) -> int:
        found = [item for item in attributes if item.resource == resource]
        if len(found) > 1:
            raise EntryError(f"gives {name} {len(found)} times")
        if found and found[0].kind not in _NUMBERS:
            raise EntryError(f"has a {name} that is no number")
        return found[0].value if found else 0

    def _elements(self) -> Iterator[tuple[int, int, int]]:
        """(depth from 1 on, start of its body, end) of each element in the order of their starts."""
        depth = 0
        for kind, start, header, end in self._chunks():
            if kind == _POOL and not self._pool:
                self._pool = self._data[start:end]
            elif kind == _RESOURCE_MAP:
                self._map = self._data[start + header : end]
            elif kind == _START_ELEMENT:
                depth += 1
                yield depth, start + header, end
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

    def _values(self, body: int, end: int, wanted: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        for item in self._attributes(body, end):
            if item.resource == _DEBUGGABLE in wanted:
                yield item.resource, int(item.kind in _INTS and item.value != 0)
            elif item.resource in wanted:
                yield item.resource, self._sdk(item.kind, item.value)

    def _attributes(self, body: int, end: int) -> Iterator[_Attribute]:
        start, size, count = self._unpack(struct.Struct("<3H"), body + 8, end)
        if count and size < _ATTRIBUTE.size:
            raise EntryError("has attributes that are too short")
        for number in range(count):
            at = body + start + number * size
            owner, name, _, _, _, kind, value = self._unpack(_ATTRIBUTE, at, end)
            resource = int.from_bytes(self._map[4 * name : 4 * name + 4], "little")
            yield _Attribute(name, resource, owner == _NONE, kind, value)

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
