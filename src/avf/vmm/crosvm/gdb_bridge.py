"""Leads from a unix socket to crosvm's gdb server, which listens on a TCP port on every address there is.

So crosvm runs in a network namespace where nobody else is, and this program, started in that namespace, is the one way
to it: `gdb_bridge.py LISTENER PORT`, where LISTENER is the descriptor of a listening unix socket. One debugger at a
time; it ends with its starter.
"""

import contextlib
import select
import socket
import sys
import time

_CHUNK = 64 << 10
_PATIENCE = 10.0
"""Seconds until crosvm listens."""
_RETRY = 0.02


def serve(listener: socket.socket, port: int) -> None:
    """Never returns."""
    while True:
        debugger, _ = listener.accept()
        with debugger, contextlib.suppress(OSError), _connect(port) as stub:
            join(debugger, stub)


def join(one: socket.socket, other: socket.socket) -> None:
    """Passes bytes both ways until one end closes. Raises OSError."""
    poll = select.poll()
    poll.register(one, select.POLLIN)
    poll.register(other, select.POLLIN)
    ends = {one.fileno(): (one, other), other.fileno(): (other, one)}
    while True:
        for fd, _ in poll.poll():
            source, target = ends[fd]
            data = source.recv(_CHUNK)
            if not data:
                return
            target.sendall(data)


def _connect(port: int) -> socket.socket:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
