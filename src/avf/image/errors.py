"""What can go wrong while an image is built.

ImageError
 +-- PackageError    a Debian package could not be found, fetched or unpacked
 +-- KernelError     a kernel image or module is not what it should be
 +-- CpioError       an initramfs entry cannot be written
"""


class ImageError(Exception):
    """Base of all errors of this package; the message is for people."""


class PackageError(ImageError):
    """A Debian package could not be found, fetched or unpacked."""


class KernelError(ImageError):
    """A kernel image or module is not what it should be."""


class CpioError(ImageError):
    """An initramfs entry cannot be written."""
