"""A minimal AndroidManifest.xml in Android's binary XML. Source: ResourceTypes.h of AOSP's frameworks/base."""

import struct
from typing import NamedTuple

from avf.apk.fields import u32

_ANDROID = "http://schemas.android.com/apk/res/android"
_NONE = 0xFFFFFFFF
_RESOURCE_IDS = {
    "versionCode": 0x0101021B,
    "versionName": 0x0101021C,
    "minSdkVersion": 0x0101020C,
    "targetSdkVersion": 0x01010270,
    "hasCode": 0x0101000C,
    "debuggable": 0x0101000F,
    "versionCodeMajor": 0x01010576,
}
_XML, _POOL, _RESOURCE_MAP = 0x0003, 0x0001, 0x0180
_START_NAMESPACE, _END_NAMESPACE, _START_ELEMENT, _END_ELEMENT = 0x0100, 0x0101, 0x0102, 0x0103
_TYPE_STRING, _TYPE_INT, _TYPE_BOOL = 0x03, 0x10, 0x12


class _Element(NamedTuple):
    name: str
    android: dict[str, int | bool | str]
    plain: dict[str, str]
    children: "list[_Element]"


def manifest(
    package: str,
    *,
    version_code: int,
    version_name: str,
    min_sdk: int,
    target_sdk: int,
    debuggable: bool,
) -> bytes:
    """The manifest of an app without code. `version_code` has 64 bits, of which versionCodeMajor has the upper ones."""
    version: dict[str, int | bool | str] = {
        "versionCode": version_code & 0xFFFFFFFF,
        "versionName": version_name,
    }
    if version_code >> 32:
        version["versionCodeMajor"] = version_code >> 32
    sdk: dict[str, int | bool | str] = {"minSdkVersion": min_sdk, "targetSdkVersion": target_sdk}
    root = _Element(
        "manifest",
        version,
        {"package": package},
        [
            _Element("uses-sdk", sdk, {}, []),
            _Element("application", {"hasCode": False, "debuggable": debuggable}, {}, []),
        ],
    )
    return _document(root)


def _document(root: _Element) -> bytes:
    strings = list(_RESOURCE_IDS)
    body = _namespaced(root, strings)
    pool = _string_pool(strings)
    resources = _chunk(_RESOURCE_MAP, 8, b"", b"".join(map(u32, _RESOURCE_IDS.values())))
    return _chunk(_XML, 8, b"", pool + resources + body)


def _namespaced(root: _Element, strings: list[str]) -> bytes:
    bounds = u32(_index(strings, "android")) + u32(_index(strings, _ANDROID))
    return _node(_START_NAMESPACE, bounds) + _element(root, strings) + _node(_END_NAMESPACE, bounds)


def _element(element: _Element, strings: list[str]) -> bytes:
    name = u32(_NONE) + u32(_index(strings, element.name))
    attributes = [_attribute(strings, _ANDROID, *item) for item in element.android.items()]
    attributes += [_attribute(strings, None, *item) for item in element.plain.items()]
    head = name + struct.pack("<6H", 20, 20, len(attributes), 0, 0, 0)
    children = b"".join(_element(child, strings) for child in element.children)
    start = _node(_START_ELEMENT, head + b"".join(attributes))
    return start + children + _node(_END_ELEMENT, name)


def _attribute(
    strings: list[str], namespace: str | None, name: str, value: int | bool | str
) -> bytes:
    raw = _index(strings, value) if isinstance(value, str) else _NONE
    if isinstance(value, str):
        kind, data = _TYPE_STRING, raw
    elif isinstance(value, bool):
        kind, data = _TYPE_BOOL, _NONE if value else 0
    else:
        kind, data = _TYPE_INT, value
    owner = _NONE if namespace is None else _index(strings, namespace)
    return struct.pack("<3IHBBI", owner, _index(strings, name), raw, 8, 0, kind, data)


def _index(strings: list[str], text: str) -> int:
    if text not in strings:
        strings.append(text)
    return strings.index(text)


def _string_pool(strings: list[str]) -> bytes:
    offsets = b""
    data = b""
    for text in strings:
        offsets += u32(len(data))
        encoded = text.encode("utf-16-le")
        data += struct.pack("<H", len(encoded) // 2) + encoded + b"\0\0"
    data += bytes(-len(data) % 4)
    fields = struct.pack("<5I", len(strings), 0, 0, 28 + len(offsets), 0)
    return _chunk(_POOL, 28, fields, offsets + data)


def _node(kind: int, body: bytes) -> bytes:
    return _chunk(kind, 16, u32(1) + u32(_NONE), body)


def _chunk(kind: int, header_size: int, fields: bytes, body: bytes) -> bytes:
    return struct.pack("<HHI", kind, header_size, 8 + len(fields) + len(body)) + fields + body
