"""Who is at the other end."""

import socket
import struct
import threading
from typing import Protocol

from avf.named import NamedTuple

from .tls import TlsSocket


class Peer(NamedTuple):
    """What is known of the other end: process credentials for unix sockets, CID and port for vsock, host and port for
    TCP, and of a TLS connection the certificate, as DER, if the server's context asked for one and has verified it.
    """

    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    cid: int | None = None
    port: int | None = None
    host: str | None = None
    certificate: bytes | None = None
    common_name: str | None = None
    """Of the certificate's subject."""


_CREDENTIALS = struct.Struct("3i")
_VSOCK_FAMILY = getattr(socket, "AF_VSOCK", None)


def peer_of(sock: socket.socket | TlsSocket) -> Peer:
    """The peer of a connected socket; fields that nobody tells are None."""
    if not isinstance(sock, socket.socket):
        return _inet_peer(sock.getpeername())._replace(
            certificate=sock.certificate, common_name=sock.common_name
        )
    if sock.family == socket.AF_UNIX:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        return Peer(pid, uid, gid)
    if sock.family == _VSOCK_FAMILY:
        cid, port = sock.getpeername()
        return Peer(cid=cid, port=port)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        return _inet_peer(sock.getpeername())
    return Peer()


def _inet_peer(address: object) -> Peer:
    match address:
        case (str(host), int(port), *_):
            return Peer(host=host, port=port)
    return Peer()


class Served(Protocol):
    """A connection, to those who ask whom it comes from."""

    peer: Peer
    session: object
    """The session end that has it."""


class Context:
    """What a thread is serving."""

    __slots__ = ("connections", "depth", "served")

    def __init__(self) -> None:
        self.served: Served | None = None
        """Whose call it is serving."""
        self.depth = 0
        """Calls it is serving within one another."""
        self.connections: dict[object, object] = {}
        """By session end: the connection whose sync call this thread is serving, for nested calls."""


class _Running(threading.local):
    def __init__(self) -> None:
        self.context = Context()


running = _Running()
"""Its `context` is that of the running thread."""


def calling_peer() -> Peer:
    """Inside a method being served: who called it. Raises RuntimeError elsewhere."""
    served = running.context.served
    if served is None:
        raise RuntimeError("no binder call is being served by this thread")
    return served.peer
