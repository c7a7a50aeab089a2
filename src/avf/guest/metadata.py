"""Reads the payload-metadata partition: i32 big-endian length, then the protobuf message `android.microdroid.Metadata`.

    Metadata      {1 version; 2 repeated ApexPayload; 3 ApkPayload apk; oneof payload {4 config_path; 5 PayloadConfig}}
    ApkPayload    {1 name; 2 payload_partition_name; 3 idsig_partition_name}
    PayloadConfig {1 payload_binary_name; 2 extra_apk_count}

A hand-written proto3 reader of the few fields that count, because the guest has no protobuf package.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from avf.guest.errors import GuestError

VERSION = 1
_MAX_SIZE = 1 << 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Metadata(NamedTuple):
    """What the host says the payload is. Exactly one of `config_path` and `binary_name` is set, or none: no payload."""

    apk_partition: str
    idsig_partition: str
    config_path: str | None
    binary_name: str | None


def read_metadata(device: str) -> Metadata:
    """Raises GuestError for anything but a whole, well-formed message."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = os.pread(fd, 4, 0)
        size = int.from_bytes(header, "big", signed=True)
        if len(header) != 4 or not 0 <= size <= _MAX_SIZE:
            raise GuestError(f"payload metadata: bad length {size}")
        data = os.pread(fd, size, 4)
    finally:
        os.close(fd)
    if len(data) != size:
        raise GuestError(f"payload metadata: {len(data)} of {size} bytes are there")
    return parse_metadata(data)


def parse_metadata(data: bytes) -> Metadata:
    """Raises GuestError."""
    version = 0
    apk = b""
    config_path: str | None = None
    binary_name: str | None = None
    for number, value in _fields(data):
        match number, value:
            case 1, int():
                version = value
            case 3, bytes():
                apk = value
            case 4, bytes():
                config_path, binary_name = _text(value), None
            case 5, bytes():
                config_path, binary_name = None, _string_field(value, 1)
    if version != VERSION:
        raise GuestError(f"payload metadata: version {version} is not supported")
    return Metadata(
        _string_field(apk, 2) or "microdroid-apk",
        _string_field(apk, 3) or "microdroid-apk-idsig",
        config_path,
        binary_name,
    )


def _string_field(data: bytes, wanted: int) -> str:
    """The last value of a string field, as proto3 has it; empty if absent."""
    found = b""
    for number, value in _fields(data):
        if number == wanted and isinstance(value, bytes):
            found = value
    return _text(found)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise GuestError("payload metadata: a string is not UTF-8") from None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise GuestError(f"payload metadata: unknown wire type {kind}")
        if size > len(data) - position:
            raise GuestError("payload metadata: a field runs past the end")
        yield key >> 3, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(data):
            raise GuestError("payload metadata: a number is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise GuestError("payload metadata: a number has more than 64 bits")
