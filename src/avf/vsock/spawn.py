"""How the user-space vsock device is started."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from avf.vsock.address import check_guest_cid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def device_command(
    ctl_fd: int,
    base: Path,
    cid: int,
    host_dirs: Sequence[Path] = (),
    ready_fd: int | None = None,
) -> list[str]:
    """The argument list of the device process of one VM.

    `ctl_fd` (one end of a socketpair, the other goes to QEMU as `-chardev socket,fd=`) and `ready_fd` must be
    inherited. The device writes one byte to `ready_fd` once it listens on `base`, and ends when `ctl_fd` reaches end
    of file. It needs no environment, no site-packages and no particular working directory.
    """
    program = os.path.join(os.path.dirname(__file__), "device", "__main__.py")  # noqa: PTH118, PTH120
    command = [sys.executable, "-I", "-S", program, "--ctl-fd", str(ctl_fd)]
    command += ["--base", str(base.absolute()), "--cid", str(check_guest_cid(cid))]
    for directory in host_dirs:
        command += ["--host-dir", str(directory.absolute())]
    if ready_fd is not None:
        command += ["--ready-fd", str(ready_fd)]
    return command
