"""The payload-metadata partition: which partition holds which part of the payload, and what to run.

Four bytes big-endian length, then the protobuf message that `avf.metadata` describes.
"""

import os
import struct
from dataclasses import dataclass, field

from avf import proto3
from avf.disk.errors import MetadataError
from avf.disk.files import describe, read_at, write_at
from avf.metadata import FORKABLE_FIELD, INVOCATION_FIELD, MAX_APEXES, MAX_SIZE, METADATA, VERSION

_LENGTH = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class ApexPayload:
    """An APEX that a guest is to activate, and the partition that it is on."""

    name: str
    partition_name: str
    public_key: bytes = b""
    root_digest: bytes = b""
    last_update_seconds: int = 0
    is_factory: bool = False


@dataclass(frozen=True, slots=True)
class ApkPayload:
    """The APK that a guest is to mount, and the partitions of the APK and of its idsig."""

    name: str = "apk"
    payload_partition_name: str = "microdroid-apk"
    idsig_partition_name: str = "microdroid-apk-idsig"


@dataclass(frozen=True, slots=True)
class PayloadConfig:
    """The payload's file in the APK, and how many further APKs there are."""

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
    arguments: tuple[str, ...] = ()
    """What the payload is called with, and in which environment: within the bounds of `avf.invocation`."""
    environment: tuple[tuple[str, str], ...] = ()
    forkable: bool = False
    """Whether the running VM may be copied; then it has no instance."""
    errors_apart: bool = False
    """Whether the guest is to keep the payload's standard error apart from its standard output."""

    def encode(self) -> bytes:
        """The partition's bytes, unpadded. Raises MetadataError for what `decode` would not give back."""
        if self.config_path is not None and self.config is not None:
            raise MetadataError("payload metadata with both a config path and a config")
        if len(self.apexes) > MAX_APEXES:
            raise MetadataError(f"payload metadata with more than {MAX_APEXES} APEXes")
        try:
            message = self._message()
        except UnicodeEncodeError as error:
            raise MetadataError(f"payload metadata: {error.object!r} is not Unicode") from error
        if len(message) > MAX_SIZE:
            raise MetadataError(f"payload metadata of {len(message)} bytes, more than {MAX_SIZE}")
        return _LENGTH.pack(len(message)) + message

    def _message(self) -> bytes:
        return b"".join(
            [
                proto3.uint_field(1, self.version),
                *(proto3.message_field(2, _encode_apex(apex)) for apex in self.apexes),
                proto3.message_field(3, _encode_apk(self.apk)),
                proto3.message_field(4, self.config_path.encode())
                if self.config_path is not None
                else b"",
                proto3.message_field(5, _encode_config(self.config))
                if self.config is not None
                else b"",
                _encode_invocation(self.arguments, self.environment, self.errors_apart),
                proto3.uint_field(FORKABLE_FIELD, self.forkable),
            ]
        )

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
        except proto3.ProtoError as error:
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
        proto3.string_field(1, apex.name)
        + proto3.string_field(2, apex.partition_name)
        + proto3.bytes_field(3, apex.public_key)
        + proto3.bytes_field(4, apex.root_digest)
        + proto3.uint_field(5, apex.last_update_seconds)
        + proto3.uint_field(6, apex.is_factory)
    )


def _encode_apk(apk: ApkPayload) -> bytes:
    return (
        proto3.string_field(1, apk.name)
        + proto3.string_field(2, apk.payload_partition_name)
        + proto3.string_field(3, apk.idsig_partition_name)
    )


def _encode_config(config: PayloadConfig) -> bytes:
    return proto3.string_field(1, config.payload_binary_name) + proto3.uint_field(
        2, config.extra_apk_count
    )


def _encode_invocation(
    arguments: tuple[str, ...], environment: tuple[tuple[str, str], ...], errors_apart: bool
) -> bytes:
    """Nothing if there is nothing to tell."""
    content = b"".join(
        [
            *(proto3.message_field(1, proto3.string_field(1, argument)) for argument in arguments),
            *(
                proto3.message_field(
                    2, proto3.string_field(1, name) + proto3.string_field(2, value)
                )
                for name, value in environment
            ),
            proto3.uint_field(3, errors_apart),
        ]
    )
    return proto3.message_field(INVOCATION_FIELD, content) if content else b""


def _decode(data: bytes) -> MetadataPartition:
    found = proto3.decode(data, METADATA)
    apk = found.get(3)
    config = found.get(5)
    invocation = found.get(INVOCATION_FIELD, {1: [], 2: [], 3: False})
    return MetadataPartition(
        ApkPayload(apk[1], apk[2], apk[3]) if apk else ApkPayload("", "", ""),
        tuple(ApexPayload(*(apex[number] for number in sorted(apex))) for apex in found[2]),
        found.get(4),
        PayloadConfig(config[1], config[2]) if config else None,
        found[1],
        tuple(argument[1] for argument in invocation[1]),
        tuple((variable[1], variable[2]) for variable in invocation[2]),
        found[FORKABLE_FIELD],
        invocation[3],
    )
