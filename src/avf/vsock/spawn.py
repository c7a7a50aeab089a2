"""How the user-space vsock device is started."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from avf.vsock.address import check_guest_cid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from avf.confine import Box

_DESCRIPTORS = 2048
"""For all connections a guest may have, and then some."""


def device_command(
    ctl_fd: int,
    base: Path,
    cid: int,
    host_dirs: Sequence[Path] = (),
    ready_fd: int | None = None,
) -> list[str]:
    """The argument list of the device process of one VM that listens and connects itself.

    `ctl_fd` (one end of a socketpair, the other goes to QEMU as `-chardev socket,fd=`; or a listening socket that the
    front-end calls) and `ready_fd` must be inherited. The device writes one byte to `ready_fd` once it listens on
    `base`, and ends when the connection of `ctl_fd` does. It needs no environment, no site-packages and no particular
    working directory.
    """
    command = [*_program(ctl_fd, cid), "--base", str(base.absolute())]
    for directory in host_dirs:
        command += ["--host-dir", str(directory.absolute())]
    if ready_fd is not None:
        command += ["--ready-fd", str(ready_fd)]
    return command


def confined_device_command(ctl_fd: int, listen_fd: int, dial_fd: int, cid: int) -> list[str]:
    """The argument list of a device process that opens nothing: its sockets are those of a `DeviceHost`."""
    return [*_program(ctl_fd, cid), "--listen-fd", str(listen_fd), "--dial-fd", str(dial_fd)]


def device_box(uid: int | None) -> Box:
    """The sandbox of such a device: this interpreter, its library, this package and what it imports, read-only."""
    from pathlib import Path

    from avf.confine import Box, Filter, Limits, python_needs

    here = Path(__file__).parent
    beside = (here.parent / name for name in ("__init__.py", "unix_path.py"))
    needs = [*python_needs(here), *beside]
    return Box(
        Filter.DEVICE,
        Limits(_DESCRIPTORS, 0),
        tuple(needs),
        listed=(here.parent.parent,),
        uid=uid,
    )


def _program(ctl_fd: int, cid: int) -> list[str]:
    path = os.path.join(os.path.dirname(__file__), "device", "__main__.py")  # noqa: PTH118, PTH120
    interpreter = os.path.realpath(sys.executable)
    return [
        interpreter,
        "-I",
        "-S",
        path,
        "--ctl-fd",
        str(ctl_fd),
        "--cid",
        str(check_guest_cid(cid)),
    ]
