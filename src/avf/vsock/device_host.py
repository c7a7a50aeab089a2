"""What the host keeps for the device process of one VM, so that it needs neither files nor sockets of its own."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from avf import unix_path
from avf.vsock.dialler import Dialler, DialServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from avf.vsock.hybrid import HybridVsock

_BACKLOG = 128


class DeviceHost:
    """Listens on BASE for the device, and connects to the host's listeners for it.

    `listener` and `dial` are for the device process to inherit; `release` closes them here.
    """

    def __init__(self, vsock: HybridVsock, host_dirs: Sequence[Path] = ()) -> None:
        """Raises OSError (EADDRINUSE if BASE is there already) or RuntimeError (no thread can be started)."""
        base = os.fspath(vsock.base.absolute())
        self._stack = ExitStack()
        self._given = ExitStack()
        with ExitStack() as undo:
            undo.callback(self.close)
            listener = self._given.enter_context(
                unix_path.listen(base, mode=0o600, backlog=_BACKLOG)
            )
            self._stack.callback(_remove, base)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._given.enter_context(theirs)
            directories = [os.fspath(directory.absolute()) for directory in host_dirs]
            server = DialServer(Dialler(vsock.cid, base, directories), ours)
            self._stack.callback(server.close)
            undo.pop_all()
        self.listener = listener.fileno()
        self.dial = theirs.fileno()

    def release(self) -> None:
        """The device has its descriptors."""
        self._given.close()

    def close(self) -> None:
        """The device has ended. Idempotent."""
        self._given.close()
        self._stack.close()


def _remove(base: str) -> None:
    try:
        os.unlink(base)  # noqa: PTH108
    except OSError:
        pass  # its directory went first
