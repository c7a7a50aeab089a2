"""How a connection to the shell service ends, so that the host gets what was sent last."""

import socket

_SECONDS = 60.0
"""How long the host has to take it, and to stop sending."""


def finish(connection: socket.socket) -> None:
    """Ends this side, and takes what the host still sends until it has ended its own, or has gone."""
    try:
        connection.settimeout(_SECONDS)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass
    except OSError:
        pass  # it has gone
