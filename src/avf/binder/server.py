"""The serving side: accepts connections, puts them together to sessions, serves each in a thread."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import wire
from .connection import Connection, received_fds
from .contract import Interface
from .endpoint import Endpoint
from .errors import BinderError, ProtocolError, report
from .handshake import (
    INIT,
    SESSION_ID_SIZE,
    ConnectionHeader,
    check_init,
    negotiate,
    pack_response,
)
from .parcel import close_fds
from .peer import Peer
from .session import SessionCore
from .wire import FdMode

_MAX_INCOMING = 64
"""Connections for calls to the client, per session."""

Root = Interface | Callable[[Peer], Interface | None]


class Server:
    """Serves one root object, or one per session made by a function of the peer (None: no root for that peer).

    `max_threads` connections per session are served at a time. `accept` decides over every connection before a byte
    of it is read. A peer that does not complete its handshake within `handshake_timeout` seconds is dropped; so is one
    that comes while `max_connections` are open. `frame_timeout`, if given, ends the session of a peer that takes longer
    to send a frame it has begun, or for so long takes nothing of a frame that is sent to it.
    """

    def __init__(
        self,
        root: Root,
        *,
        fd_modes: frozenset[FdMode] = frozenset({FdMode.NONE}),
        max_threads: int = 1,
        max_version: int = wire.DEFAULT_VERSION,
        accept: Callable[[Peer], bool] | None = None,
        handshake_timeout: float | None = 10.0,
        frame_timeout: float | None = None,
        max_connections: int = 1024,
    ) -> None:
        if max_threads < 1:
            raise ValueError(f"max_threads must be at least 1, not {max_threads}")
        if not 0 <= max_version <= wire.MAX_VERSION:
            raise ValueError(f"protocol version {max_version}")
        self._root = root
        self._fd_modes = fd_modes
        self._max_threads = max_threads
        self._max_version = max_version
        self._accept = accept
        self._handshake_timeout = handshake_timeout
        self._frame_timeout = frame_timeout
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Endpoint] = {}
        self._threads: set[threading.Thread] = set()
        self._setting_up: set[Connection] = set()
        self._stopped = False
        self._stopping: set[threading.Thread] = set()
        self._wakes: set[int] = set()
        """An eventfd for each accept loop that runs."""

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def endpoints(self) -> list[Endpoint]:
        """The ends of the sessions that are open."""
        return list(self._sessions.values())

    def threads(self) -> list[threading.Thread]:
        """Those that accept and serve now."""
        with self._lock:
            return list(self._threads)

    # Accepting

    def serve(self, listener: socket.socket) -> None:
        """Accepts connections until `shutdown`, then closes the listener, which is taken over."""
        with listener, self._accepting() as wake:
            listener.setblocking(False)
            while _wait(listener, wake):
                self._accept_one(listener)

    def start(self, listener: socket.socket) -> None:
        """`serve` in a thread. Raises RuntimeError if there can be none; the listener is closed then."""
        thread = threading.Thread(
            target=self._run_accept, args=(listener,), name="binder-accept", daemon=True
        )
        with self._lock:
            if self._stopped:
                listener.close()
                return
            try:
                thread.start()
            except RuntimeError:  # no more threads
                listener.close()
                raise
            self._threads.add(thread)

    def _run_accept(self, listener: socket.socket) -> None:
        try:
            self.serve(listener)
        except Exception as error:  # noqa: BLE001 - the thread ends here
            report(error)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def serve_bootstrap(self, sock: socket.socket) -> None:
        """Takes connections that come as descriptors over a unix socket, until its peer closes it or `shutdown`.

        Sessions outlive it. The socket is taken over.
        """
        with sock, self._accepting() as wake:
            sock.setblocking(True)
            while _wait(sock, wake):
                data, control, flags, _ = sock.recvmsg(
                    4, socket.CMSG_SPACE(wire.MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
                )
                fds = received_fds(control)
                if not data:
                    close_fds(fds)
                    return
                if len(fds) == 1 and not flags & socket.MSG_CTRUNC:
                    self._adopt(fds[0])
                else:
                    close_fds(fds)

    @contextmanager
    def _accepting(self) -> Iterator[int]:
        """An eventfd that is readable from `shutdown` on."""
        wake = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            with self._lock:
                self._wakes.add(wake)
                if self._stopped:
                    os.eventfd_write(wake, 1)
            yield wake
        finally:
            with self._lock:
                self._wakes.discard(wake)
                os.close(wake)

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors or memory, or the peer has gone: serving goes on, but not in a busy loop.
            report(error)
            select.poll().poll(50)
            return
        self._take(sock)

    def _adopt(self, fd: int) -> None:
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            return
        self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        """Starts a thread for a connection, whose socket is taken over."""
        try:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(self._handshake_timeout)
            connection = Connection(sock)
        except OSError:
            sock.close()
            return
        thread = threading.Thread(
            target=self._run, args=(connection,), name="binder-serve", daemon=True
        )
        with self._lock:
            if self._stopped or len(self._threads) >= self._max_connections:
                connection.close()
                return
            try:
                thread.start()
            except RuntimeError as error:  # no more threads
                report(error)
                connection.close()
                return
            self._threads.add(thread)
            self._setting_up.add(connection)

    # One connection

    def _run(self, connection: Connection) -> None:
        endpoint = None
        try:
            if self._accept is None or self._accept(connection.peer):
                endpoint = self._set_up(connection)
            else:
                connection.close()
        except (OSError, EOFError, BinderError):
            pass
        except Exception as error:  # noqa: BLE001 - the thread ends here
            connection.close()
            report(error)
        with self._lock:
            self._setting_up.discard(connection)
        try:
            if endpoint is not None:
                endpoint.serve(connection)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _set_up(self, connection: Connection) -> Endpoint | None:
        """The session to serve the connection for.

        None if there is nothing to serve; the connection is settled then.
        """
        taken = False
        try:
            deadline = None
            if self._handshake_timeout is not None:
                deadline = time.monotonic() + self._handshake_timeout
            header = ConnectionHeader.unpack(_read(connection, 16, deadline))
            if header.new_session:
                endpoint = self._new_session(connection, header, deadline)
            else:
                session_id = _read(connection, SESSION_ID_SIZE, deadline)
                known = self._sessions.get(session_id)
                if known is None:
                    raise ProtocolError("unknown session id")
                endpoint = known
                if header.incoming:
                    taken = endpoint.add_outgoing(connection, limit=_MAX_INCOMING, greeting=INIT)
                    return None
                check_init(_read(connection, len(INIT), deadline))
            endpoint.start_frames(connection)
            taken = endpoint.add_serving(connection)
            return endpoint if taken else None
        finally:
            if not taken:
                connection.close()

    def _new_session(
        self, connection: Connection, header: ConnectionHeader, deadline: float | None
    ) -> Endpoint:
        version = negotiate(header.version, self._max_version)
        connection.sock.sendall(pack_response(version))
        if header.incoming:
            raise ProtocolError("a new session on an incoming connection")
        if header.fd_mode not in self._fd_modes:
            raise ProtocolError(f"file descriptor mode {header.fd_mode}")
        check_init(_read(connection, len(INIT), deadline))
        session_id = os.urandom(SESSION_ID_SIZE)
        core = SessionCore(
            server=True,
            version=version,
            fd_mode=FdMode(header.fd_mode),
            max_threads=self._max_threads,
            session_id=session_id,
            root=_SessionRoot(self._root, connection.peer).get,
        )
        endpoint = Endpoint(
            core, lambda: self._forget(session_id), frame_timeout=self._frame_timeout
        )
        with self._lock:
            if self._stopped:
                raise ProtocolError("the server is stopping")
            self._sessions[session_id] = endpoint
        return endpoint

    def _forget(self, session_id: bytes) -> None:
        # Without the lock: a session may end in the middle of anything, when the last proxy is collected.
        self._sessions.pop(session_id, None)

    # Ending

    def shutdown(self) -> None:
        """Stops accepting, ends all sessions, waits for the threads but those that are in here. Idempotent."""
        with self._lock:
            self._stopped = True
            for wake in self._wakes:
                os.eventfd_write(wake, 1)
            for connection in self._setting_up:
                connection.shutdown()
            self._stopping.add(threading.current_thread())
            endpoints = list(self._sessions.values())
        for endpoint in endpoints:
            endpoint.end()
        with self._lock:
            threads = self._threads - self._stopping
        for thread in threads:
            thread.join()
        with self._lock:
            self._stopping.discard(threading.current_thread())


class _SessionRoot:
    """Finds a session's root object once, when the session first asks."""

    def __init__(self, root: Root, peer: Peer) -> None:
        self._make = root
        self._peer = peer
        self._lock = threading.Lock()
        self._made: list[Interface | None] = []

    def get(self) -> Interface | None:
        with self._lock:
            if not self._made:
                root = self._make
                self._made.append(root if isinstance(root, Interface) else root(self._peer))
            return self._made[0]


def _read(connection: Connection, size: int, deadline: float | None) -> bytes:
    data = b""
    while len(data) < size:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("handshake")
            connection.sock.settimeout(left)
        data += connection.read_some(size - len(data))
    return data


def _wait(sock: socket.socket, wake: int) -> bool:
    """Waits for something to read; False once there is something on `wake`."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(wake, select.POLLIN)
    return wake not in [fd for fd, _ in poll.poll()]
