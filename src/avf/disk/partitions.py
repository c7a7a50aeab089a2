"""Writable images as AVF makes them: sparse raw files that begin with what their guest looks for.

Android 13 made QCOW2 images, later Android raw ones; these are raw, and QCOW2 stays welcome as an input.
"""

import os
import struct
from enum import Enum

from avf.disk.errors import DiskError
from avf.disk.files import GRANULE, align_up, describe, write_at
from avf.disk.image import MAX_SIZE
from avf.disk.reader import ImageReader
from avf.disk.record import RAW, record_format
from avf.overwriting import Kind, foreign

INSTANCE_MAGIC = b"Android-VM-instance"
"""The first bytes of an instance image."""
INSTANCE_VERSION = 1
"""The version of the format of instance images."""
ENCRYPTEDSTORE_MAGIC = b"UNFORMATTED-STORAGE"
"""The first bytes of a storage image that no guest has formatted yet."""


class PartitionKind(Enum):
    """What a partition image is for, by the names that `vm create-partition` takes."""

    RAW = "raw"
    ANDROID_VM_INSTANCE = "instance"
    ENCRYPTEDSTORE = "encryptedstore"

    @property
    def start(self) -> bytes:
        """The bytes a fresh partition of this kind begins with."""
        match self:
            case PartitionKind.RAW:
                return b""
            case PartitionKind.ANDROID_VM_INSTANCE:
                return INSTANCE_MAGIC + struct.pack("<H", INSTANCE_VERSION)
            case PartitionKind.ENCRYPTEDSTORE:
                return ENCRYPTEDSTORE_MAGIC


_KINDS = {
    PartitionKind.RAW: Kind.RAW,
    PartitionKind.ANDROID_VM_INSTANCE: Kind.INSTANCE,
    PartitionKind.ENCRYPTEDSTORE: Kind.STORE,
}


def create_writable_partition(fd: int, size: int, kind: PartitionKind = PartitionKind.RAW) -> None:
    """Makes `fd` a fresh sparse image of `size` bytes, rounded up to 4096, and leaves its offset at 0.

    What was in it must be nothing, or an image of the same kind that begins with the kind's magic: that is gone then.
    Raises DiskError for any other content, and for a size that is negative or too large, or 0 where the kind has a
    magic; OSError where the file cannot be written.
    """
    if not 0 <= size <= MAX_SIZE:
        raise DiskError(f"invalid partition size {size}: must be 0 to {MAX_SIZE} bytes")
    if align_up(size) < len(kind.start):
        raise DiskError(f"{size} bytes are too few for a partition of kind {kind.value}")
    if (found := foreign(fd, _KINDS[kind])) is not None:
        raise DiskError(f"{describe(fd)} is not empty and is no {kind.value} partition: {found}")
    os.ftruncate(fd, 0)
    record_format(fd, RAW)
    os.ftruncate(fd, align_up(size))
    write_at(fd, 0, kind.start)
    os.lseek(fd, 0, os.SEEK_SET)


def format_instance(fd: int) -> None:
    """Marks the raw image in `fd` as a new instance partition."""
    write_at(fd, 0, PartitionKind.ANDROID_VM_INSTANCE.start)


def format_encryptedstore(fd: int) -> None:
    """Marks the raw image in `fd` as encrypted storage to be formatted by the guest."""
    write_at(fd, 0, PartitionKind.ENCRYPTEDSTORE.start)


class StoreState(Enum):
    """What an encryptedstore partition looks like from outside; its contents are ciphertext."""

    UNFORMATTED = "unformatted"
    """Fresh: the guest formats it at its next start."""
    BLANK = "blank"
    """Neither mark nor data: formatting began and was cut off, or the host never marked it."""
    IN_USE = "in use"


def store_state(image: ImageReader) -> StoreState:
    """Tells a fresh encryptedstore partition from one in use by its first 4096 bytes."""
    start = image.pread(GRANULE, 0)
    if start.startswith(ENCRYPTEDSTORE_MAGIC):
        return StoreState.UNFORMATTED
    return StoreState.IN_USE if any(start) else StoreState.BLANK
