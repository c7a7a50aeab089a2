"""What the host's side of one VM's vsock is, whichever way it is done."""

from socket import socket
from typing import Protocol


class HostVsock(Protocol):
    """The host's end of the vsock of one guest. Sockets it returns are blocking and the caller's."""

    @property
    def cid(self) -> int:
        """The CID of the guest."""

    def listen(self, port: int) -> socket:
        """A listening stream socket on which connections of the guest to host port `port` arrive.

        Raises AddressError or OSError (EADDRINUSE if taken).
        """

    def connect(self, port: int, timeout: float | None = 10.0) -> socket:
        """Connects to the guest's `port`.

        Raises ConnectionResetError if the guest refuses, TimeoutError after `timeout` seconds, AddressError, else
        OSError.
        """

    def accepts(self, peer_sock: socket) -> bool:
        """Whether a connection accepted from `listen` really comes from this guest."""
