"""The shell service of a debuggable guest: runs commands and moves files for the host, on vsock port 22.

It is a process of its own, forked before the agent knows any secret, and there is none in a guest that is not
debuggable. Every connection is served by a process of its own. The host alone may connect: what a payload may do does
not grow.
"""

import os
import socket
from collections.abc import Callable

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.guest.host import HOST_CID
from avf.guest.process import fork_helper
from avf.guest.report import log

DEBUGGABLE_MARKER = "/etc/avf/debuggable"
MAX_SESSIONS = 32
"""Connections served at a time; who comes then waits."""
_BACKLOG = 32
_ORDERS = 3
"""The descriptor on which the service hears from the agent."""
_MAX_FD = 1 << 16

ServeOne = Callable[[socket.socket], None]


class ShellService:
    """Forks the service, which listens at once and serves once it is told to `begin`."""

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        fork_helper(lambda: _wait_and_serve(orders))
        os.close(orders)

    def begin(self) -> None:
        """The guest is ready to be looked into. A service that is gone only costs a log line."""
        try:
            os.write(self._orders, b"\0")
        except OSError as error:
            log(f"no shell service: {error}")
        os.close(self._orders)


def start_if_debuggable(marker: str = DEBUGGABLE_MARKER) -> ShellService | None:
    """None in a guest that is not debuggable, and where the service cannot be had."""
    if not os.access(marker, os.F_OK):
        return None
    try:
        return ShellService()
    except OSError as error:
        log(f"no shell service: {error}")
        return None


def _wait_and_serve(orders: int) -> None:
    os.dup2(orders, _ORDERS)
    os.closerange(_ORDERS + 1, _MAX_FD)
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, IVirtualMachineService.VM_SHELL_SERVICE_PORT))
    listener.listen(_BACKLOG)
    if os.read(_ORDERS, 1):  # else the agent has given up
        serve(listener, _load)


def _load() -> ServeOne:
    """Imported when somebody connects, for a boot has no time for it."""
    from avf.guest import libc
    from avf.guest.session import serve_connection

    libc.load()  # here, not once in every session
    return serve_connection


def serve(listener: socket.socket, load: Callable[[], ServeOne], host: int = HOST_CID) -> None:
    """Serves those who come from the CID `host`, each in a process that ends with it. Raises OSError.

    `load` is called once there is somebody to serve, and gives the function that does it.
    """
    sessions: set[int] = set()
    while True:
        while len(sessions) >= MAX_SESSIONS:
            sessions.discard(os.waitpid(-1, 0)[0])
        try:
            connection, address = listener.accept()
        except ConnectionError:
            continue  # it has gone again
        with connection:
            _reap(sessions)
            if address[0] != host:
                log(f"shell: CID {address[0]} is not the host")
                continue
            serve_one = load()
            try:
                sessions.add(fork_helper(lambda: _run(listener, connection, serve_one)))  # noqa: B023
            except OSError as error:
                log(f"shell: {error}")


def _run(listener: socket.socket, connection: socket.socket, serve_one: ServeOne) -> None:
    listener.close()
    serve_one(connection)


def _reap(sessions: set[int]) -> None:
    while sessions:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        sessions.discard(pid)
