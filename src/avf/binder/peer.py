"""Who is at the other end."""

import socket
import struct
import threading
from typing import NamedTuple, Protocol


class Peer(NamedTuple):
    """What the kernel says of the other end: process credentials for unix sockets, CID and port for vsock."""

    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    cid: int | None = None
    port: int | None = None


_CREDENTIALS = struct.Struct("3i")
_VSOCK_FAMILY = getattr(socket, "AF_VSOCK", None)


def peer_of(sock: socket.socket) -> Peer:
    """The peer of a connected socket; fields the kernel does not tell are None."""
    if sock.family == socket.AF_UNIX:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        return Peer(pid, uid, gid)
    if sock.family == _VSOCK_FAMILY:
        cid, port = sock.getpeername()
        return Peer(cid=cid, port=port)
    return Peer()


class Served(Protocol):
    """A connection, to those who ask whom it comes from."""

    peer: Peer
    session: object
    """The session end that has it."""


class Context(threading.local):
    """What the running thread is serving."""

    served: Served | None = None
    """Whose call it is serving."""

    depth = 0
    """Calls it is serving within one another."""

    def __init__(self) -> None:
        self.connections: dict[object, object] = {}
        """By session end: the connection whose sync call this thread is serving, for nested calls."""


context = Context()


def calling_peer() -> Peer:
    """Inside a method being served: who called it. Raises RuntimeError elsewhere."""
    if context.served is None:
        raise RuntimeError("no binder call is being served by this thread")
    return context.served.peer
