"""The programs that an image is built with, looked for before anything is downloaded."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from avf.image.errors import AptMissing, ToolsMissing

_PROGRAMS = {"gcc": "gcc", "mkfs.erofs": "erofs-utils"}
"""Each with its Debian package."""
_KERNEL_PROGRAMS = {"bc": "bc", "bison": "bison", "flex": "flex", "ld": "binutils", "make": "make"}
_HEADER = "/usr/include/stdlib.h"
_LIBELF_USER = "#include <gelf.h>\nint main(void) { return (int)elf_version(EV_CURRENT); }\n"


def check_tools(*, for_kernel: bool = False) -> None:
    """Raises AptMissing if the host is not Debian or Ubuntu, ToolsMissing if something has to be installed.

    `for_kernel`: whether a kernel is to be compiled, too.
    """
    if shutil.which("apt-get") is None:
        raise AptMissing("apt-get is missing: images are built on Debian or Ubuntu")
    missing = _missing(_PROGRAMS)
    if not Path(_HEADER).exists():
        missing["the C library's headers"] = "libc6-dev"
    if for_kernel:
        missing |= _missing(_KERNEL_PROGRAMS)
        if "gcc" not in missing and not _links_with_libelf():
            missing["libelf's headers"] = "libelf-dev"
    if missing:
        raise ToolsMissing(list(missing), list(missing.values()))


def _missing(programs: Mapping[str, str]) -> dict[str, str]:
    return {name: package for name, package in programs.items() if shutil.which(name) is None}


def _links_with_libelf() -> bool:
    """The kernel's build checks its own code with it."""
    command = ["gcc", "-x", "c", "-o", "/dev/null", "-", "-lelf"]
    done = subprocess.run(command, input=_LIBELF_USER, capture_output=True, text=True, check=False)
    return done.returncode == 0
