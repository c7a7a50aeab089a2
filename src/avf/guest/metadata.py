"""Reads the payload-metadata partition: i32 big-endian length, then the message that `avf.metadata` describes."""

import os

from avf.guest.errors import GuestError
from avf.metadata import FORKABLE_FIELD, INVOCATION_FIELD, MAX_SIZE, METADATA, VERSION
from avf.named import NamedTuple
from avf.proto3 import ProtoError, decode


class Metadata(NamedTuple):
    """What the host says the payload is. Exactly one of `config_path` and `binary_name` is set, or none: no payload."""

    apk_partition: str
    idsig_partition: str
    config_path: str | None
    binary_name: str | None
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    forkable: bool = False
    """Whether the host may copy the running VM."""
    errors_apart: bool = False
    """Whether the host wants the payload's standard error apart from its standard output."""


def read_metadata(device: str) -> Metadata:
    """Raises GuestError for anything but a whole, well-formed message."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = os.pread(fd, 4, 0)
        size = int.from_bytes(header, "big", signed=True)
        if len(header) != 4 or not 0 <= size <= MAX_SIZE:
            raise GuestError(f"payload metadata: bad length {size}")
        data = os.pread(fd, size, 4)
    finally:
        os.close(fd)
    if len(data) != size:
        raise GuestError(f"payload metadata: {len(data)} of {size} bytes are there")
    return parse_metadata(data)


def parse_metadata(data: bytes) -> Metadata:
    """Raises GuestError."""
    try:
        found = decode(data, METADATA)
    except ProtoError as error:
        raise GuestError(f"payload metadata: {error}") from error
    if found[1] != VERSION:
        raise GuestError(f"payload metadata: version {found[1]} is not supported")
    apk = found.get(3, {})
    config = found.get(5)
    invocation = found.get(INVOCATION_FIELD, {1: [], 2: [], 3: False})
    return Metadata(
        apk.get(2) or "microdroid-apk",
        apk.get(3) or "microdroid-apk-idsig",
        found.get(4),
        config[1] if config else None,
        tuple(argument[1] for argument in invocation[1]),
        tuple((variable[1], variable[2]) for variable in invocation[2]),
        found[FORKABLE_FIELD],
        invocation[3],
    )
