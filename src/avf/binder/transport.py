"""Ways to reach a server. Each returns a connector: something to call once per connection for a connected socket."""

import array
import os
import socket
import time
from collections.abc import Callable

Connector = Callable[[], socket.socket]

BOOTSTRAP_MESSAGE = bytes(4)
_HYBRID_TIMEOUT = 30.0
"""Seconds for the guest to accept a connection."""


def unix(path: str | os.PathLike[str]) -> Connector:
    """A unix socket in the file system."""
    return lambda: _connected(socket.AF_UNIX, os.fspath(path))


def unix_abstract(name: str | bytes) -> Connector:
    """A unix socket in the abstract namespace; `name` without the leading NUL."""
    raw = name.encode() if isinstance(name, str) else name
    return lambda: _connected(socket.AF_UNIX, b"\0" + raw)


def inet(host: str, port: int) -> Connector:
    """TCP."""

    def connect() -> socket.socket:
        sock = socket.create_connection((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    return connect


def vsock(cid: int, port: int) -> Connector:
    """The kernel's AF_VSOCK."""
    return lambda: _connected(socket.AF_VSOCK, (cid, port))


def hybrid_vsock(path: str | os.PathLike[str], port: int) -> Connector:
    """A guest's vsock port behind the unix socket of a user-space device (Firecracker's CONNECT convention)."""

    def connect() -> socket.socket:
        sock = _connected(socket.AF_UNIX, os.fspath(path))
        try:
            deadline = time.monotonic() + _HYBRID_TIMEOUT
            sock.settimeout(_HYBRID_TIMEOUT)
            sock.sendall(b"CONNECT %d\n" % port)
            answer = _read_line(sock, 32, deadline)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        if not answer.startswith(b"OK "):
            sock.close()
            raise ConnectionRefusedError(f"{os.fspath(path)}: nobody listens on vsock port {port}")
        return sock

    return connect


def bootstrap(sock: socket.socket) -> Connector:
    """A unix socket over which the server takes one end of a new socket pair per connection.

    `sock` stays the caller's.
    """

    def connect() -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                control = array.array("i", [theirs.fileno()])
                sock.sendmsg(
                    [BOOTSTRAP_MESSAGE],
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, control)],
                    socket.MSG_NOSIGNAL,
                )
        except BaseException:
            ours.close()
            raise
        return ours

    return connect


def _connected(family: int, address: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.connect(address)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


def _read_line(sock: socket.socket, limit: int, deadline: float) -> bytes:
    """Byte by byte: what follows the line is not ours to read. Empty if the peer closes first.

    Raises TimeoutError.
    """
    line = b""
    while not line.endswith(b"\n") and len(line) < limit:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the vsock device did not answer in time")
        sock.settimeout(left)
        byte = sock.recv(1)
        if not byte:
            return b""
        line += byte
    return line
