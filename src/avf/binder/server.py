"""The serving side: accepts connections, puts them together to sessions, serves each in a thread."""

import os
import threading
import time
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypedDict

from . import wire
from .budget import Budget
from .connection import Connection
from .endpoint import Endpoint
from .errors import BinderError, ProtocolError, note, report
from .handshake import (
    INIT,
    SESSION_ID_SIZE,
    ConnectionHeader,
    check_init,
    negotiate,
    pack_response,
)
from .peer import Peer
from .reception import Reception
from .roots import Root, SessionRoot, checked_root
from .session import SessionCore
from .wanted import check_count, check_seconds, check_type
from .wire import FdMode

if TYPE_CHECKING:
    import ssl  # slow to import, and hardly ever needed

_LOOK_AFTER = 0.5
"""Seconds after which whoever waits for its turn looks at the clock again."""
_MOMENT = 0.02
"""Seconds that a frame which has come may take to its method."""
_GRACE_STEP = 0.02
"""Seconds after which `shutdown` looks again whether calls are being served."""
_MAX_INCOMING = 64
"""Connections for calls to the client, per session."""


def user_or_guest(peer: Peer) -> Hashable:
    """The uid of a unix socket's peer, the CID of a vsock's; all others count together."""
    if peer.uid is not None:
        return peer.uid
    return None if peer.cid is None else f"CID {peer.cid}"


class ServerOptions(TypedDict, total=False):
    """What a server takes besides its root; `Server` says what each means."""

    fd_modes: frozenset[FdMode]
    max_threads: int
    max_version: int
    accept: Callable[[Peer], bool] | None
    handshake_timeout: float | None
    frame_timeout: float | None
    party: Callable[[Peer], Hashable]
    budget: Budget | None


class Server(Reception):
    """Serves one root object, or one per session made by a function of the peer (None: no root for that peer), or
    several by name, given as a mapping, which clients get with `Session.get_service`.

        with Server(Hello()) as server:
            server.serve(unix("hello.sock"))

    A server may serve at several addresses at once. Leaving its context shuts it down.

    `max_threads` connections per session are served at a time. `accept` decides over every connection before a byte
    of it is read, so also before TLS shows a certificate. A peer that does not complete its handshakes within
    `handshake_timeout` seconds is dropped.
    `frame_timeout`, if given, ends the session of a peer that takes longer to send a frame it has begun, or to take one
    that is sent to it.

    `party` names whom a connection counts for, by default its user, or for vsock its CID. It is called where
    connections are accepted, so it must not wait for anything; if it raises, the connection is closed. `budget` bounds
    what the parties may take (see `Budget`); servers may share one.
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
        party: Callable[[Peer], Hashable] = user_or_guest,
        budget: Budget | None = None,
    ) -> None:
        check_count("max_threads", max_threads, 1)
        check_type("max_version", max_version, int)
        check_type("fd_modes", fd_modes, frozenset, set)
        for mode in fd_modes:
            check_type("fd_modes", mode, FdMode)
        check_seconds("handshake_timeout", handshake_timeout)
        check_seconds("frame_timeout", frame_timeout)
        check_type("budget", budget, Budget, type(None))
        if not 0 <= max_version <= wire.MAX_VERSION:
            raise ValueError(f"protocol version {max_version}")
        super().__init__(party, Budget() if budget is None else budget)
        self._root = checked_root(root)
        self._fd_modes = fd_modes
        self._max_threads = max_threads
        self._max_version = max_version
        self._accept = accept
        self._handshake_timeout = handshake_timeout
        self._frame_timeout = frame_timeout
        self._over = threading.Event()
        self._sessions: dict[bytes, Endpoint] = {}
        self._setting_up: set[Connection] = set()
        self._stopping: set[threading.Thread] = set()

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def endpoints(self) -> list[Endpoint]:
        """The ends of the sessions that are open."""
        return list(self._sessions.values())

    # One connection

    def _start_serving(self, connection: Connection, tls: "ssl.SSLContext | None") -> bool:
        thread = threading.Thread(
            target=self._run, args=(connection, tls), name="binder-serve", daemon=True
        )
        with self._lock:
            if self._ended:
                connection.close()
                return False
            try:
                thread.start()
            except RuntimeError as error:  # no more threads
                connection.close()
                if self._notes.take(self._budget.clock()):
                    note(f"a connection cannot be served: {error}")
                return False
            self._threads.add(thread)
            self._setting_up.add(connection)
        return True

    def _run(self, connection: Connection, tls: "ssl.SSLContext | None") -> None:
        endpoint = None
        try:
            if self._await_turn(connection) and self._accepts(connection.peer):
                endpoint = self._set_up(connection, tls)
            else:
                connection.close()
        except (OSError, EOFError, BinderError):
            pass
        except Exception as error:  # noqa: BLE001 - the thread ends here
            connection.close()
            if connection.account.may_report():
                report(error)
        with self._lock:
            self._setting_up.discard(connection)
        try:
            if endpoint is not None:
                endpoint.serve(connection)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _await_turn(self, connection: Connection) -> bool:
        """Waits until one more connection of its party may be served; False if the server stops before."""
        while wait := connection.account.arrival():
            if self._over.wait(min(wait, _LOOK_AFTER)):
                return False
        return True

    def _accepts(self, peer: Peer) -> bool:
        return self._accept is None or self._accept(peer)

    def _set_up(self, connection: Connection, tls: "ssl.SSLContext | None") -> Endpoint | None:
        """The session to serve the connection for.

        None if there is nothing to serve; the connection is settled then.
        """
        taken = False
        try:
            if self._handshake_timeout is not None:
                connection.set_deadline(time.monotonic() + self._handshake_timeout)
            if tls is not None:
                connection.secure(tls)
            header = ConnectionHeader.unpack(connection.read_exactly(16))
            if header.new_session:
                endpoint = self._new_session(connection, header)
            else:
                session_id = connection.read_exactly(SESSION_ID_SIZE)
                known = self._sessions.get(session_id)
                if known is None or known.party != connection.party:
                    raise ProtocolError("unknown session id")
                endpoint = known
                if header.incoming:
                    taken = endpoint.add_outgoing(connection, limit=_MAX_INCOMING, greeting=INIT)
                    return None
                check_init(connection.read_exactly(len(INIT)))
            endpoint.start_frames(connection)
            taken = endpoint.add_serving(connection)
            return endpoint if taken else None
        finally:
            if not taken:
                connection.close()

    def _new_session(self, connection: Connection, header: ConnectionHeader) -> Endpoint:
        version = negotiate(header.version, self._max_version)
        connection.sock.sendall(pack_response(version))
        if header.incoming:
            raise ProtocolError("a new session on an incoming connection")
        if header.fd_mode not in self._fd_modes or (
            header.fd_mode == FdMode.UNIX and connection.party[0]
        ):
            raise ProtocolError(f"file descriptor mode {header.fd_mode}")
        check_init(connection.read_exactly(len(INIT)))
        session_id = os.urandom(SESSION_ID_SIZE)
        core = SessionCore(
            server=True,
            version=version,
            fd_mode=FdMode(header.fd_mode),
            max_threads=self._max_threads,
            session_id=session_id,
            root=SessionRoot(self._root, connection.peer).get,
            account=connection.account,
        )
        endpoint = Endpoint(
            core,
            lambda: self._forget(session_id),
            frame_timeout=self._frame_timeout,
            party=connection.party,
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

    def shutdown(self, grace: float = 0.0) -> None:
        """Stops accepting, ends all sessions, waits for the threads but those that are in here. Idempotent.

        A session in which a call is being served, or waits to be, ends when it has been, but at the latest after
        `grace` seconds.
        """
        check_type("grace", grace, int, float)
        check_seconds("grace", grace, optional=False)
        deadline = time.monotonic() + grace
        with self._lock:
            self._stopped = True
            self._ended = self._ended or grace <= 0
            for wake in self._wakes:
                os.eventfd_write(wake, 1)
            self._stopping.add(threading.current_thread())
            endpoints = list(self._sessions.values())
        self._end_all(endpoints, deadline)
        self._over.set()
        with self._lock:
            self._ended = True
            for connection in self._setting_up:
                connection.shutdown()
            threads = self._threads - self._stopping
        for thread in threads:
            thread.join()
        with self._lock:
            self._stopping.discard(threading.current_thread())

    @staticmethod
    def _end_all(endpoints: list[Endpoint], deadline: float) -> None:
        while endpoints:
            patient = time.monotonic() < deadline
            busy = [endpoint for endpoint in endpoints if patient and endpoint.busy]
            if patient and len(busy) < len(endpoints):
                # a call may just be on its way from the buffer to its method, and show in neither
                time.sleep(_MOMENT)
                busy = [endpoint for endpoint in endpoints if endpoint in busy or endpoint.busy]
            for endpoint in endpoints:
                if endpoint not in busy:
                    endpoint.end()
            endpoints = busy
            if busy:
                time.sleep(_GRACE_STEP)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
