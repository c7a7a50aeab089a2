"""Where crosvm calls its vsock device.

Only releases since 2025 take the socket to a vhost-user device by its descriptor. All of them connect to a path, and
one that leads through a descriptor of the socket's file reaches the socket even when the file has been removed.
"""

import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

from avf.vmm.crosvm.address import address_in

_NAME = "vsock-device.sock"


class Door:
    """A listening socket, the descriptor `fileno()`, that crosvm finds through the descriptor `name`."""

    def __init__(self, directory: Path, starting: ExitStack) -> None:
        """Makes a file in `directory` and removes it. `starting` closes `name` once crosvm has it. Raises OSError."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with address_in(directory, _NAME) as address:
                self._listener.bind(address)
                self._listener.listen(1)
                self.name = os.open(address, os.O_PATH | os.O_CLOEXEC)
            starting.callback(os.close, self.name)
            (directory / _NAME).unlink()
        except BaseException:
            self._listener.close()
            raise

    def fileno(self) -> int:
        return self._listener.fileno()

    def close(self) -> None:
        """A device that still waits for crosvm sees the end of its socket. Idempotent."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
