"""What can go wrong while an image is built.

ImageError              `remedy` says what to do
 +-- ToolsMissing    programs that are needed to build are not installed
 +-- PackageError    a Debian package could not be found, fetched or unpacked
 |    +-- AptMissing       there is no apt on this host
 +-- KernelError     a kernel image or module is not what it should be
 +-- CpioError       an initramfs entry cannot be written
"""

OTHER_HOST = "build the image on an x86_64 host with Debian or Ubuntu, and copy the folder; AVF_IMAGE_DIR names it"


class ImageError(Exception):
    """Base of all errors of this package; the message is for people."""

    remedy = ""
    """What to do about it, in words; empty if that depends."""

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        if remedy is not None:
            self.remedy = remedy


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

    remedy = (
        "sudo apt-get update, then the same with --update; a file that is damaged can be removed"
        " from the cache"
    )


class AptMissing(PackageError):
    """There is no apt on this host."""

    remedy = OTHER_HOST


class KernelError(ImageError):
    """A kernel image or module is not what it should be."""

    remedy = "the same with --update fetches the kernel's package anew"


class CpioError(ImageError):
    """An initramfs entry cannot be written."""
