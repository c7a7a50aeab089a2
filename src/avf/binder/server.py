"""The serving side: accepts connections, puts them together to sessions, serves each in a thread."""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import closing, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, overload

from . import wire
from .accepting import SpareDescriptors, hears, wait
from .budget import Bucket, Budget, Rate, nobody
from .connection import Connection
from .endpoint import Endpoint
from .errors import BinderError, ProtocolError, note, report
from .fd import close_fds
from .handshake import (
    INIT,
    SESSION_ID_SIZE,
    ConnectionHeader,
    check_init,
    negotiate,
    pack_response,
)
from .incoming import received_fds
from .listener import Listener
from .peer import Peer, peer_of
from .roots import Root, SessionRoot, checked_root
from .session import SessionCore
from .transport import Address, BootstrapAddress
from .wire import FdMode

if TYPE_CHECKING:
    import ssl  # slow to import, and hardly ever needed

_A = TypeVar("_A", bound=Address)

_NOTES = Rate(burst=5, per_second=0.1)
"""Lines about what a server cannot do for want of descriptors or threads."""
_LOOK_AFTER = 0.5
"""Seconds after which whoever waits for its turn looks at the clock again."""
_SPARE = 8
"""Descriptors kept for connections of privileged parties."""
_WAITING = 128
"""Connections that have come and are not accepted yet, at most."""
_GRACE_STEP = 0.02
"""Seconds after which `shutdown` looks again whether calls are being served."""
_MAX_INCOMING = 64
"""Connections for calls to the client, per session."""


def user_or_guest(peer: Peer) -> Hashable:
    """The uid of a unix socket's peer, the CID of a vsock's; all others count together."""
    if peer.uid is not None:
        return peer.uid
    return None if peer.cid is None else f"CID {peer.cid}"


class Server:
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
        if max_threads < 1:
            raise ValueError(f"max_threads must be at least 1, not {max_threads}")
        if not 0 <= max_version <= wire.MAX_VERSION:
            raise ValueError(f"protocol version {max_version}")
        self._root = checked_root(root)
        self._fd_modes = fd_modes
        self._max_threads = max_threads
        self._max_version = max_version
        self._accept = accept
        self._handshake_timeout = handshake_timeout
        self._frame_timeout = frame_timeout
        self._party = party
        self._budget = Budget() if budget is None else budget
        self._refusals = Bucket(self._budget.refusals, self._budget.clock())
        self._notes = Bucket(_NOTES, self._budget.clock())
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Endpoint] = {}
        self._threads: set[threading.Thread] = set()
        self._setting_up: set[Connection] = set()
        self._stopped = False
        """No session begins any more, and soon nothing is accepted."""
        self._ended = False
        """No connection is served any more."""
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

    def serve(self, at: Address | socket.socket) -> None:
        """Accepts connections until `shutdown`; a listening socket is taken over.

        Raises OSError if nobody can listen at the address.
        """
        if isinstance(at, BootstrapAddress):
            self.serve_bootstrap(at.sock)
        else:
            self._serve(_listener(at)[0])

    @overload
    def start(self, at: _A) -> _A: ...

    @overload
    def start(self, at: socket.socket) -> None: ...

    def start(self, at: _A | socket.socket) -> _A | None:
        """`serve` in a thread. It listens when this returns the address, which clients can connect to.

        Raises as `serve` does, and RuntimeError if there can be no thread; nothing listens then.
        """
        if isinstance(at, BootstrapAddress):
            self._start_accepting(at.sock, lambda: self.serve_bootstrap(at.sock))
            return at
        listener, address = _listener(at)
        self._start_accepting(listener, lambda: self._serve(listener))
        return address

    def _serve(self, listener: Listener) -> None:
        with listener, self._accepting() as wake, closing(self._spare_descriptors()) as spare:
            listener.sock.setblocking(False)
            spare.refill()
            while wait(listener.sock, wake):
                self._accept_one(listener, wake, spare)
            self._accept_the_rest(listener)

    def _accept_the_rest(self, listener: Listener) -> None:
        """Takes the connections that have come: a session whose calls may finish would not survive their loss."""
        for _ in range(_WAITING):
            if self._ended:
                return
            try:
                sock, _ = listener.sock.accept()
            except OSError:
                return
            self._take(sock, listener.tls)

    def _start_accepting(self, source: Listener | socket.socket, serve: Callable[[], None]) -> None:
        thread = threading.Thread(
            target=self._run_accept, args=(serve,), name="binder-accept", daemon=True
        )
        with self._lock:
            if self._stopped:
                source.close()
                return
            try:
                thread.start()
            except RuntimeError:  # no more threads
                source.close()
                raise
            self._threads.add(thread)

    def _run_accept(self, serve: Callable[[], None]) -> None:
        try:
            serve()
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
            while wait(sock, wake):
                data, control, flags, _ = sock.recvmsg(
                    4, socket.CMSG_SPACE(wire.MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
                )
                fds = received_fds(control)
                if not data:
                    close_fds(fds)
                    return
                if len(fds) == 1 and not flags & socket.MSG_CTRUNC:
                    self._adopt(fds[0], wake)
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

    def _spare_descriptors(self) -> "SpareDescriptors":
        return SpareDescriptors(0 if self._budget.privileged is nobody else _SPARE)

    def _accept_one(self, listener: Listener, wake: int, spare: "SpareDescriptors") -> None:
        try:
            sock, _ = listener.sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if self._notes.take(self._budget.clock()):
                note(f"a connection cannot be accepted: {error}")
            full = error.errno in (errno.EMFILE, errno.ENFILE)
            if full and self._accept_with_spare(listener, spare):
                self._after_refusal(wake)
            else:
                hears(wake, 0.05)  # serving goes on, but not in a busy loop
            return
        spare.refill()
        if not self._take(sock, listener.tls):
            self._after_refusal(wake)

    def _accept_with_spare(self, listener: Listener, spare: "SpareDescriptors") -> bool:
        """No descriptor is left: accepts a connection with one kept for that, and closes it unless it is privileged.

        False if nothing could be accepted.
        """
        with spare.lent():
            try:
                sock, _ = listener.sock.accept()
            except OSError:
                return False
            if self._is_privileged(sock):
                self._take(sock, listener.tls)
            else:
                sock.close()
            return True

    def _is_privileged(self, sock: socket.socket) -> bool:
        try:
            return self._budget.privileged(self._party(peer_of(sock)))
        except Exception:  # noqa: BLE001 - `party` may be anybody's, and accepting goes on
            return False

    def _after_refusal(self, wake: int) -> None:
        """Accepts nothing for a while if many connections have been turned away."""
        while not self._refusals.take(self._budget.clock()):
            if hears(wake, min(self._refusals.wait, _LOOK_AFTER)):
                return

    def _adopt(self, fd: int, wake: int) -> None:
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            return
        if not self._take(sock):
            self._after_refusal(wake)

    def _take(self, sock: socket.socket, tls: "ssl.SSLContext | None" = None) -> bool:
        """Starts a thread for a connection, whose socket is taken over; False if it was turned away."""
        try:
            peer = peer_of(sock)
            account = self._budget.admit(self._party(peer))
        except Exception as error:  # noqa: BLE001 - `party` may be anybody's, and accepting goes on
            sock.close()
            if self._notes.take(self._budget.clock()):
                note(f"a connection is turned away: {error}")
            return False
        connection = Connection(sock, account, peer)
        try:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            connection.close()
            return False
        return self._start_serving(connection, tls)

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

    # One connection

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


def _listener(at: _A | socket.socket) -> tuple[Listener, _A | None]:
    if isinstance(at, Address):
        return at.listen()
    if not isinstance(at, socket.socket):
        raise TypeError(f"an address or a listening socket wanted, not {type(at).__name__}")
    return Listener(at), None
