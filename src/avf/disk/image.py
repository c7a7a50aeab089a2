"""Which format an image file has, and how large the disk in it is.

A guest can write any bytes into its raw disk. So the format of a VM's disk is never told by what the file holds
(`attached_format`); only those who merely look into a file go by its first bytes (`image_format`).
"""

import logging
from enum import Enum

from avf.disk import composite, qcow2, record
from avf.disk.errors import ImageError, UnsupportedImage
from avf.disk.files import describe, read_at, stored_size

_ANDROID_SPARSE_MAGIC = bytes.fromhex("3aff26ed")
_ZSTD_MAGIC = bytes.fromhex("28b52ffd")
_SECTOR = 512
MAX_SIZE = 16 << 40
"""Largest virtual size accepted, in bytes; crosvm's own limit for QCOW2."""


log = logging.getLogger(__name__)


class ImageFormat(Enum):
    """The formats of disk images that can be read."""

    RAW = "raw"
    QCOW2 = "qcow2"
    COMPOSITE = "composite"


def image_format(fd: int) -> ImageFormat:
    """Recognises an image by its first bytes, in crosvm's order. Raises UnsupportedImage for Android sparse images.

    Only regular files and block devices are read; ImageError for others.
    """
    stored_size(fd)
    start = read_at(fd, 0, len(composite.MAGIC))
    if start == composite.MAGIC:
        return ImageFormat.COMPOSITE
    if start.startswith(qcow2.MAGIC):
        return ImageFormat.QCOW2
    if start.startswith(_ANDROID_SPARSE_MAGIC):
        raise UnsupportedImage(
            f"{describe(fd)} is an Android sparse image; convert it with simg2img"
        )
    return ImageFormat.RAW


def image_size(fd: int) -> int:
    """Virtual size in bytes of the raw, QCOW2 or composite image in `fd`, whose format its first bytes tell.

    Raises ImageError if it is damaged, larger than MAX_SIZE, or (QCOW2) needs anything outside itself.
    """
    return _size(fd, image_format(fd))


def attached_format(fd: int, *, writable: bool) -> ImageFormat:
    """RAW or QCOW2: the format in which a VM gets the image in `fd`, whatever a guest has written into it.

    It is the recorded one (`avf.disk.record`). A read-only image that looks like another format is refused, since it
    was hardly meant to be raw; a writable one stays raw. Raises ImageError.
    """
    stored_size(fd)
    if record.recorded_format(fd) == record.QCOW2:
        return ImageFormat.QCOW2
    if (looks := foreign_format(fd)) is not None:
        if not writable:
            raise UnsupportedImage(_misnamed(fd, looks))
        log.warning("%s begins like %s and is used as a raw image", describe(fd), looks)
    return ImageFormat.RAW


def attached_size(fd: int, *, writable: bool) -> int:
    """Virtual size in bytes of the image in `fd` as a VM gets it. Raises ImageError, as `image_size` does."""
    return _size(fd, attached_format(fd, writable=writable))


def check_whole_disk(fd: int, *, writable: bool) -> None:
    """Raises ImageError unless the image in `fd` can be a disk of its own."""
    size = attached_size(fd, writable=writable)
    if writable and size % _SECTOR:
        raise ImageError(
            f"{describe(fd)} has {size} bytes; a writable disk has a multiple of {_SECTOR}"
        )


def foreign_format(fd: int) -> str | None:
    """What a file begins like that would not be raw to a VMM which guesses, for people; None if nothing."""
    start = read_at(fd, 0, len(composite.MAGIC))
    if start == composite.MAGIC:
        return "a composite disk"
    for magic, name in (
        (qcow2.MAGIC, "a QCOW2 image"),
        (_ANDROID_SPARSE_MAGIC, "an Android sparse image"),
        (_ZSTD_MAGIC, "a zstd archive"),
    ):
        if start.startswith(magic):
            return name
    return None


def _misnamed(fd: int, looks: str) -> str:
    advice = {
        "a QCOW2 image": "; if it is one, give it a name that ends in .qcow2",
        "an Android sparse image": "; convert it with simg2img",
    }
    return (
        f"{describe(fd)} begins like {looks}, and is none that can be used{advice.get(looks, '')}"
    )


def _size(fd: int, kind: ImageFormat) -> int:
    match kind:
        case ImageFormat.QCOW2:
            size = qcow2.read_header(fd).size
        case ImageFormat.COMPOSITE:
            size = composite.read_composite(fd).length
        case ImageFormat.RAW:
            size = stored_size(fd)
    if size > MAX_SIZE:
        raise ImageError(f"{describe(fd)} holds {size} bytes, more than {MAX_SIZE}")
    return size
