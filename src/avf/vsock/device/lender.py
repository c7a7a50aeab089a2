"""Who started the device lends it a descriptor of the front-end's memory, when there is a front-end."""

import os
import socket

from avf.vsock.device.errors import FrontEndError


class Lender:
    """The device's end of a socket over which the descriptor comes, with one byte."""

    def __init__(self, sock: socket.socket) -> None:
        """Takes the socket over."""
        sock.setblocking(False)
        self._sock = sock
        self._fd: int | None = None

    def borrow(self) -> int:
        """The descriptor, which stays this object's. Raises FrontEndError if it has not come yet."""
        if self._fd is None:
            self._fd = self._receive()
        return self._fd

    def close(self) -> None:
        """Gives the descriptor back."""
        self._sock.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _receive(self) -> int:
        try:
            _, fds, _, _ = socket.recv_fds(self._sock, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise FrontEndError(f"nobody has lent the front-end's memory: {error}") from None
        if len(fds) != 1:
            raise FrontEndError("nobody has lent the front-end's memory")
        return fds[0]
