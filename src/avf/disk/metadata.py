"""The payload-metadata partition: which partition holds which part of the payload, and what to run.

Four bytes big-endian length, then the protobuf message android.microdroid.Metadata{1 version; 2 repeated apexes;
3 apk; oneof {4 config_path; 5 config}} (AVF, microdroid/payload/metadata.proto).
"""

import os
import struct
from dataclasses import dataclass, field

from avf.disk import proto
from avf.disk.errors import MetadataError
from avf.disk.files import describe, read_at, write_at

VERSION = 1
MAX_SIZE = 1 << 20
MAX_APEXES = 128
_LENGTH = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class ApexPayload:
    name: str
    partition_name: str
    public_key: bytes = b""
    root_digest: bytes = b""
    last_update_seconds: int = 0
    is_factory: bool = False


@dataclass(frozen=True, slots=True)
class ApkPayload:
    name: str = "apk"
    payload_partition_name: str = "microdroid-apk"
    idsig_partition_name: str = "microdroid-apk-idsig"


@dataclass(frozen=True, slots=True)
class PayloadConfig:
    payload_binary_name: str
    extra_apk_count: int = 0


@dataclass(frozen=True, slots=True)
class MetadataPartition:
    """Content of the partition; at most one of `config_path` (inside the APK's mount) and `config` is set."""

    apk: ApkPayload = field(default_factory=ApkPayload)
    apexes: tuple[ApexPayload, ...] = ()
    config_path: str | None = None
    config: PayloadConfig | None = None
    version: int = VERSION

    def encode(self) -> bytes:
        """The partition's bytes, unpadded. Raises MetadataError if both kinds of payload are set."""
        if self.config_path is not None and self.config is not None:
            raise MetadataError("payload metadata with both a config path and a config")
        message = b"".join(
            [
                proto.uint_field(1, self.version),
                *(proto.message_field(2, _encode_apex(apex)) for apex in self.apexes),
                proto.message_field(3, _encode_apk(self.apk)),
                proto.message_field(4, self.config_path.encode())
                if self.config_path is not None
                else b"",
                proto.message_field(5, _encode_config(self.config))
                if self.config is not None
                else b"",
            ]
        )
        if len(message) > MAX_SIZE:
            raise MetadataError(f"payload metadata of {len(message)} bytes, more than {MAX_SIZE}")
        return _LENGTH.pack(len(message)) + message

    @classmethod
    def decode(cls, data: bytes) -> "MetadataPartition":
        """The inverse; padding behind the message is ignored, unknown fields too. Raises MetadataError."""
        if len(data) < _LENGTH.size:
            raise MetadataError("payload metadata is cut off")
        (size,) = _LENGTH.unpack_from(data)
        if not 0 <= size <= min(MAX_SIZE, len(data) - _LENGTH.size):
            raise MetadataError(
                f"payload metadata says it has {size} bytes of {len(data) - _LENGTH.size}"
            )
        try:
            return _decode(data[_LENGTH.size : _LENGTH.size + size])
        except proto.ProtoError as error:
            raise MetadataError(f"damaged payload metadata: {error}") from error

    def write(self, fd: int) -> None:
        """Replaces the content of `fd`, a regular file."""
        content = self.encode()
        os.ftruncate(fd, 0)
        write_at(fd, 0, content)

    @classmethod
    def read(cls, fd: int) -> "MetadataPartition":
        """Reads the partition image in `fd`. Raises MetadataError, naming the file."""
        try:
            return cls.decode(read_at(fd, 0, _LENGTH.size + MAX_SIZE))
        except MetadataError as error:
            raise MetadataError(f"{describe(fd)}: {error}") from error


def _encode_apex(apex: ApexPayload) -> bytes:
    return (
        proto.string_field(1, apex.name)
        + proto.string_field(2, apex.partition_name)
        + proto.bytes_field(3, apex.public_key)
        + proto.bytes_field(4, apex.root_digest)
        + proto.uint_field(5, apex.last_update_seconds)
        + proto.uint_field(6, apex.is_factory)
    )


def _encode_apk(apk: ApkPayload) -> bytes:
    return (
        proto.string_field(1, apk.name)
        + proto.string_field(2, apk.payload_partition_name)
        + proto.string_field(3, apk.idsig_partition_name)
    )


def _encode_config(config: PayloadConfig) -> bytes:
    return proto.string_field(1, config.payload_binary_name) + proto.uint_field(
        2, config.extra_apk_count
    )


def _decode(data: bytes) -> MetadataPartition:
    version, apk = 0, ApkPayload("", "", "")
    apexes: list[ApexPayload] = []
    config_path: str | None = None
    config: PayloadConfig | None = None
    for number, value in proto.fields(data):
        match number:
            case 1:
                version = proto.as_uint(value)
            case 2:
                if len(apexes) == MAX_APEXES:
                    raise proto.ProtoError(f"more than {MAX_APEXES} APEXes")
                apexes.append(_decode_apex(proto.as_bytes(value)))
            case 3:
                apk = _decode_apk(proto.as_bytes(value))
            case 4:
                config_path, config = proto.as_text(value), None
            case 5:
                config_path, config = None, _decode_config(proto.as_bytes(value))
    return MetadataPartition(apk, tuple(apexes), config_path, config, version)


def _decode_apex(data: bytes) -> ApexPayload:
    found = dict(proto.fields(data))
    return ApexPayload(
        name=proto.as_text(found.get(1, b"")),
        partition_name=proto.as_text(found.get(2, b"")),
        public_key=proto.as_bytes(found.get(3, b"")),
        root_digest=proto.as_bytes(found.get(4, b"")),
        last_update_seconds=proto.as_uint(found.get(5, 0)),
        is_factory=bool(proto.as_uint(found.get(6, 0))),
    )


def _decode_apk(data: bytes) -> ApkPayload:
    found = dict(proto.fields(data))
    return ApkPayload(*(proto.as_text(found.get(number, b"")) for number in (1, 2, 3)))


def _decode_config(data: bytes) -> PayloadConfig:
    found = dict(proto.fields(data))
    return PayloadConfig(proto.as_text(found.get(1, b"")), proto.as_uint(found.get(2, 0)))
