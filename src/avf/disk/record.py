"""What a host has recorded of an image's format, out of its guest's reach.

The record is the extended attribute `user.avf.format` of the file, which only the host can write; without one, a file
whose name ends in `.qcow2` is a QCOW2 image, because its owner has called it so.
"""

import contextlib
import os

from avf.disk.files import describe

ATTRIBUTE = "user.avf.format"
RAW, QCOW2 = "raw", "qcow2"
_SUFFIX = ".qcow2"
_DELETED = " (deleted)"


def record_format(fd: int, name: str) -> None:
    """Records that the file holds an image of the format RAW or QCOW2, if its file system can keep that."""
    with contextlib.suppress(OSError):
        os.setxattr(fd, ATTRIBUTE, name.encode())


def recorded_format(fd: int) -> str:
    """RAW or QCOW2, without a look at what the file holds: RAW where nothing says otherwise."""
    try:
        recorded = os.getxattr(fd, ATTRIBUTE)
    except OSError:
        recorded = b""
    if recorded in (RAW.encode(), QCOW2.encode()):
        return recorded.decode()
    return QCOW2 if describe(fd).removesuffix(_DELETED).endswith(_SUFFIX) else RAW
