"""Which format an image file has, and how large the disk in it is."""

from enum import Enum

from avf.disk import composite, qcow2
from avf.disk.errors import ImageError, UnsupportedImage
from avf.disk.files import describe, read_at, stored_size

_ANDROID_SPARSE_MAGIC = bytes.fromhex("3aff26ed")
MAX_SIZE = 16 << 40
"""Largest virtual size accepted, in bytes; crosvm's own limit for QCOW2."""


class ImageFormat(Enum):
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
    """Virtual size in bytes of the raw, QCOW2 or composite image in `fd`.

    Raises ImageError if it is damaged, larger than MAX_SIZE, or (QCOW2) needs anything outside itself.
    """
    match image_format(fd):
        case ImageFormat.QCOW2:
            size = qcow2.read_header(fd).size
        case ImageFormat.COMPOSITE:
            size = composite.read_composite(fd).length
        case ImageFormat.RAW:
            size = stored_size(fd)
    if size > MAX_SIZE:
        raise ImageError(f"{describe(fd)} holds {size} bytes, more than {MAX_SIZE}")
    return size
