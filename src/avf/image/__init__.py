"""Builds the guest image (kernel, initramfs, microdroid.json) out of distribution packages, without root."""

from avf.image.build import Image, build_image, default_cache, default_output
from avf.image.cpio import Cpio
from avf.image.errors import (
    AptMissing,
    CpioError,
    ImageError,
    KernelError,
    PackageError,
    ToolsMissing,
)
from avf.image.kernel import KernelFiles, fetch_kernel, module_closure
from avf.image.modules import module_name, read_module
from avf.image.tools import check_tools
from avf.image.userland import standard_library

__all__ = [
    "AptMissing",
    "Cpio",
    "CpioError",
    "Image",
    "ImageError",
    "KernelError",
    "KernelFiles",
    "PackageError",
    "ToolsMissing",
    "build_image",
    "check_tools",
    "default_cache",
    "default_output",
    "fetch_kernel",
    "module_closure",
    "module_name",
    "read_module",
    "standard_library",
]
