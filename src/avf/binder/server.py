"""The serving side: accepts connections, puts them together to sessions, serves each in a thread."""

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import closing, contextmanager

from . import wire
from .budget import Bucket, Budget, Rate, nobody
from .connection import Connection, received_fds
from .contract import Interface
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
from .peer import Peer, peer_of
from .session import SessionCore
from .wire import FdMode

_NOTES = Rate(burst=5, per_second=0.1)
"""Lines about what a server cannot do for want of descriptors or threads."""
_LOOK_AFTER = 0.5
"""Seconds after which whoever waits for its turn looks at the clock again."""
_SPARE = 8
"""Descriptors kept for connections of privileged parties."""
_MAX_INCOMING = 64
"""Connections for calls to the client, per session."""

Root = Interface | Callable[[Peer], Interface | None]


def user_or_guest(peer: Peer) -> Hashable:
    """The uid of a unix socket's peer, the CID of a vsock's; all others count together."""
    if peer.uid is not None:
        return peer.uid
    return None if peer.cid is None else f"CID {peer.cid}"


class Server:
    """Serves one root object, or one per session made by a function of the peer (None: no root for that peer).

    `max_threads` connections per session are served at a time. `accept` decides over every connection before a byte
    of it is read. A peer that does not complete its handshake within `handshake_timeout` seconds is dropped.
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
        _check_root(root)
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
        _check_listener(listener)
        with listener, self._accepting() as wake, closing(self._spare_descriptors()) as spare:
            listener.setblocking(False)
            spare.refill()
            while _wait(listener, wake):
                self._accept_one(listener, wake, spare)

    def start(self, listener: socket.socket) -> None:
        """`serve` in a thread. Raises RuntimeError if there can be none; the listener is closed then."""
        _check_listener(listener)
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

    def _spare_descriptors(self) -> "_SpareDescriptors":
        return _SpareDescriptors(0 if self._budget.privileged is nobody else _SPARE)

    def _accept_one(self, listener: socket.socket, wake: int, spare: "_SpareDescriptors") -> None:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if self._notes.take(self._budget.clock()):
                note(f"a connection cannot be accepted: {error}")
            full = error.errno in (errno.EMFILE, errno.ENFILE)
            if full and self._accept_with_spare(listener, spare):
                self._after_refusal(wake)
            else:
                _hears(wake, 0.05)  # serving goes on, but not in a busy loop
            return
        spare.refill()
        if not self._take(sock):
            self._after_refusal(wake)

    def _accept_with_spare(self, listener: socket.socket, spare: "_SpareDescriptors") -> bool:
        """No descriptor is left: accepts a connection with one kept for that, and closes it unless it is privileged.

        False if nothing could be accepted.
        """
        with spare.lent():
            try:
                sock, _ = listener.accept()
            except OSError:
                return False
            if self._is_privileged(sock):
                self._take(sock)
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
            if _hears(wake, min(self._refusals.wait, _LOOK_AFTER)):
                return

    def _adopt(self, fd: int, wake: int) -> None:
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            return
        if not self._take(sock):
            self._after_refusal(wake)

    def _take(self, sock: socket.socket) -> bool:
        """Starts a thread for a connection, whose socket is taken over; False if it was turned away."""
        try:
            account = self._budget.admit(self._party(peer_of(sock)))
        except Exception as error:  # noqa: BLE001 - `party` may be anybody's, and accepting goes on
            sock.close()
            if self._notes.take(self._budget.clock()):
                note(f"a connection is turned away: {error}")
            return False
        connection = Connection(sock, account)
        try:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            connection.close()
            return False
        return self._start_serving(connection)

    def _start_serving(self, connection: Connection) -> bool:
        thread = threading.Thread(
            target=self._run, args=(connection,), name="binder-serve", daemon=True
        )
        with self._lock:
            if self._stopped:
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

    def _run(self, connection: Connection) -> None:
        endpoint = None
        try:
            if self._await_turn(connection) and self._accepts(connection.peer):
                endpoint = self._set_up(connection)
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

    def _set_up(self, connection: Connection) -> Endpoint | None:
        """The session to serve the connection for.

        None if there is nothing to serve; the connection is settled then.
        """
        taken = False
        try:
            if self._handshake_timeout is not None:
                connection.set_deadline(time.monotonic() + self._handshake_timeout)
            header = ConnectionHeader.unpack(connection.read_exactly(16))
            if header.new_session:
                endpoint = self._new_session(connection, header)
            else:
                session_id = connection.read_exactly(SESSION_ID_SIZE)
                known = self._sessions.get(session_id)
                if known is None:
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
        if header.fd_mode not in self._fd_modes:
            raise ProtocolError(f"file descriptor mode {header.fd_mode}")
        check_init(connection.read_exactly(len(INIT)))
        session_id = os.urandom(SESSION_ID_SIZE)
        core = SessionCore(
            server=True,
            version=version,
            fd_mode=FdMode(header.fd_mode),
            max_threads=self._max_threads,
            session_id=session_id,
            root=_SessionRoot(self._root, connection.peer).get,
            account=connection.account,
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
        self._over.set()
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


def _check_root(root: object) -> None:
    """Raises TypeError for what is neither an object to serve nor a function of the peer."""
    if isinstance(root, type) and not _takes_peer(root):
        name = root.__name__
        raise TypeError(f"an object to serve wanted, not the class {name}: {name}() makes one")
    if not isinstance(root, Interface) and not callable(root):
        raise TypeError(f"an object of an Interface class wanted, not {type(root).__name__}")


def _takes_peer(root: type) -> bool:
    """Whether a class makes its objects of one argument."""
    import inspect  # slow to import, and hardly ever needed

    try:
        inspect.signature(root).bind(None)
    except TypeError:
        return False
    return True


def _check_listener(sock: object) -> None:
    if not isinstance(sock, socket.socket):
        raise TypeError(f"a listening socket wanted, not {type(sock).__name__}")


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


class _SpareDescriptors:
    """Descriptors kept open for the time when there are no others."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[int] = []

    def refill(self) -> None:
        while len(self._kept) < self._count:
            try:
                self._kept.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                return

    @contextmanager
    def lent(self) -> Iterator[None]:
        """One of them is free to be used."""
        if self._kept:
            os.close(self._kept.pop())
        yield
        self.refill()

    def close(self) -> None:
        close_fds(self._kept)
        self._kept.clear()


def _wait(sock: socket.socket, wake: int) -> bool:
    """Waits for something to read; False once there is something on `wake`."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(wake, select.POLLIN)
    return wake not in [fd for fd, _ in poll.poll()]


def _hears(wake: int, seconds: float) -> bool:
    """Whether there is something on `wake` within that time."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    return bool(poll.poll(1000 * seconds))
