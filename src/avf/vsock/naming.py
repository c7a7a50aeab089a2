"""Which guest is at the other end of a socket that a user-space device connected.

The device binds its end to a name in the abstract namespace that tells CID and port, as `getpeername` tells them for
AF_VSOCK.
"""

import itertools
import os
import socket
from collections.abc import Iterator

_PREFIX = b"\0avf-vsock"
_FIELDS = 5

_serials: Iterator[int] = itertools.count()


def name_guest(sock: socket.socket, cid: int, port: int) -> None:
    """Names an unconnected unix socket after a guest's port. A socket whose name is taken stays nameless."""
    name = b"%s/%d/%d/%d/%d" % (_PREFIX, cid, port, os.getpid(), next(_serials))
    try:
        sock.bind(name)
    except OSError:
        pass


def expect_reset(sock: socket.socket) -> None:
    """Asks for a reset, should the stream of an accepted socket be cut: else who has sent nothing reads an end of file.

    Before anything is sent. The guest sees nothing of it, and the kernel's vsock does it unasked. Raises OSError if the
    stream is over already.
    """
    if sock.family == socket.AF_UNIX and guest_address(sock) is not None:
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            socket.send_fds(sock, [b"\0"], [fd])
        finally:
            os.close(fd)


def guest_address(sock: socket.socket) -> tuple[int, int] | None:
    """(CID, port) of the guest at the other end of an accepted socket; None if that cannot be told.

    For a unix socket this is the word of the process at the other end: only as good as the rights to connect.
    """
    name = sock.getpeername()
    if sock.family == socket.AF_VSOCK:
        return name[0], name[1]
    if sock.family != socket.AF_UNIX or not isinstance(name, bytes):
        return None
    fields = name.split(b"/")
    if len(fields) != _FIELDS or fields[0] != _PREFIX:
        return None
    if not all(field.isdigit() for field in fields[1:3]):
        return None
    return int(fields[1]), int(fields[2])
