"""vsock over unix sockets, the way Firecracker's users know it.

Guest to host port P: the device connects to the unix socket BASE_P. Host to guest port P: connect to BASE, send
"CONNECT P\\n" and read "OK n\\n"; end of stream instead means that the guest refused.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import time
from typing import TYPE_CHECKING

from avf import unix_path
from avf.vsock.address import check_guest_cid, check_port
from avf.vsock.naming import guest_address

if TYPE_CHECKING:
    from pathlib import Path

_BACKLOG = 128
_ANSWER_MAX = len("OK 4294967295\n")
_TIMEVAL = struct.Struct("@ll")
_UCRED = struct.Struct("@iII")


def port_socket(base: str, port: int) -> str:
    """Where the host listens for the guest's connections to `port`."""
    return f"{base}_{port}"


class HybridVsock:
    """A HostVsock over unix sockets; the device process of the VM listens on `base`."""

    __slots__ = ("base", "cid")

    def __init__(self, cid: int, base: Path) -> None:
        self.cid = check_guest_cid(cid)
        self.base = base

    def listen(self, port: int) -> socket.socket:
        """Listens on BASE_PORT, mode 0600; whoever made BASE's directory removes the file."""
        return unix_path.listen(
            port_socket(os.fspath(self.base), check_port(port)), mode=0o600, backlog=_BACKLOG
        )

    def connect(self, port: int, timeout: float | None = 10.0) -> socket.socket:
        """See HostVsock.connect. FileNotFoundError or ConnectionRefusedError: there is no device process."""
        deadline = None if timeout is None else time.monotonic() + timeout
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect_base(sock, _remaining(deadline))
            request = b"CONNECT %d\n" % check_port(port)
            sock.settimeout(_remaining(deadline))
            sock.sendall(request)
            _read_answer(sock, deadline, port)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return sock

    def accepts(self, peer_sock: socket.socket) -> bool:
        """Whether the peer is a process of this user or root that speaks for this guest.

        The rest is up to the rights of BASE's directory.
        """
        if peer_sock.family != socket.AF_UNIX or self._speaks_for_another(peer_sock):
            return False
        credentials = peer_sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _, uid, _ = _UCRED.unpack(credentials)
        return uid in (0, os.geteuid())

    def _speaks_for_another(self, peer_sock: socket.socket) -> bool:
        address = guest_address(peer_sock)
        return address is not None and address[0] != self.cid

    def _connect_base(self, sock: socket.socket, timeout: float | None) -> None:
        # A blocking connect with SO_SNDTIMEO waits for room in the backlog; a non-blocking one fails with EAGAIN.
        if timeout is not None:
            seconds, fraction = divmod(max(timeout, 0.001), 1)
            timeval = _TIMEVAL.pack(int(seconds), int(fraction * 1_000_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        try:
            with unix_path.usable(os.fspath(self.base)) as address:
                sock.connect(address)
        except BlockingIOError:
            raise TimeoutError(f"{self.base}: the vsock device does not answer") from None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(0, 0))


def listen_host(port: int, directory: Path, *, mode: int = 0o666) -> socket.socket:
    """Listens on DIRECTORY/PORT for guests of any VM whose device was given `directory`.

    The directory's rights decide who may connect. A socket left by a dead listener is replaced; a live one is
    OSError(EADDRINUSE).
    """
    path = os.path.join(os.fspath(directory), str(check_port(port)))  # noqa: PTH118
    _remove_if_dead(path)
    return unix_path.listen(path, mode=mode, backlog=_BACKLOG)


def _remove_if_dead(path: str) -> None:
    """Removes a socket nobody listens on, and nothing else: connecting to a plain file is refused as well."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            with unix_path.usable(path) as address:
                probe.connect(address)
        except ConnectionRefusedError:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)  # noqa: PTH108
        except OSError:
            return


def _read_answer(sock: socket.socket, deadline: float | None, port: int) -> None:
    """Reads "OK n\\n" byte by byte, since what follows is the guest's data."""
    answer = b""
    while not answer.endswith(b"\n"):
        sock.settimeout(_remaining(deadline))
        byte = sock.recv(1)
        if not byte:
            raise ConnectionResetError(f"the guest refused a connection to vsock port {port}")
        answer += byte
        if len(answer) > _ANSWER_MAX or not answer.startswith(b"OK "[: len(answer)]):
            raise ConnectionError(f"the vsock device answered {answer!r}")


def _remaining(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the guest did not answer in time")
    return remaining
