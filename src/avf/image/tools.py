"""The programs that an image is built with, looked for before anything is downloaded."""

import shutil
from pathlib import Path

from avf.image.errors import AptMissing, ToolsMissing

_PROGRAMS = {"gcc": "gcc", "mkfs.erofs": "erofs-utils"}
"""Each with its Debian package."""
_HEADER = "/usr/include/stdlib.h"


def check_tools() -> None:
    """Raises AptMissing if the host is not Debian or Ubuntu, ToolsMissing if something has to be installed."""
    if shutil.which("apt-get") is None:
        raise AptMissing("apt-get is missing: images are built on Debian or Ubuntu")
    missing = {name: package for name, package in _PROGRAMS.items() if shutil.which(name) is None}
    if not Path(_HEADER).exists():
        missing["the C library's headers"] = "libc6-dev"
    if missing:
        raise ToolsMissing(list(missing), list(missing.values()))
