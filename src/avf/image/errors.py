"""What can go wrong while an image is built.

ImageError
 +-- ToolsMissing    programs that are needed to build are not installed
 +-- PackageError    a Debian package could not be found, fetched or unpacked
 |    +-- AptMissing       there is no apt on this host
 +-- KernelError     a kernel image or module is not what it should be
 +-- CpioError       an initramfs entry cannot be written
"""


class ImageError(Exception):
    """Base of all errors of this package; the message is for people."""


class ToolsMissing(ImageError):
    """Programs that are needed to build are not installed. `packages` are the Debian packages that have them."""

    def __init__(self, tools: list[str], packages: list[str]) -> None:
        super().__init__(
            f"not installed: {', '.join(tools)}; install them: apt-get install {' '.join(packages)}"
        )
        self.tools = tools
        self.packages = packages


class PackageError(ImageError):
    """A Debian package could not be found, fetched or unpacked."""


class AptMissing(PackageError):
    """There is no apt on this host."""


class KernelError(ImageError):
    """A kernel image or module is not what it should be."""


class CpioError(ImageError):
    """An initramfs entry cannot be written."""
