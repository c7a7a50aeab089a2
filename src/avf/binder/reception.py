"""How a server accepts connections, and turns away those that there is no room for."""

import errno
import os
import socket
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, TypeVar, overload

from . import wire
from .accepting import SpareDescriptors, hears, wait
from .budget import Bucket, Budget, Rate, nobody
from .connection import Connection
from .errors import note, report
from .fd import close_fds
from .incoming import received_fds
from .listener import Listener
from .peer import Peer, peer_of
from .transport import Address, BootstrapAddress

if TYPE_CHECKING:
    import ssl  # slow to import, and hardly ever needed

_A = TypeVar("_A", bound=Address)

_NOTES = Rate(burst=5, per_second=0.1)
"""Lines about what a server cannot do for want of descriptors or threads."""
_SPARE = 8
"""Descriptors kept for connections of privileged parties."""
_WAITING = 128
"""Connections that have come and are not accepted yet, at most."""
_LOOK_AFTER = 0.5
"""Seconds after which a server that accepts nothing for a while looks at the clock again."""


class Reception:
    """Accepts connections at addresses, and has each served in a thread if its party may have one more."""

    def __init__(self, party: Callable[[Peer], Hashable], budget: Budget) -> None:
        self._party = party
        self._budget = budget
        self._refusals = Bucket(budget.refusals, budget.clock())
        self._notes = Bucket(_NOTES, budget.clock())
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._stopped = False
        """No session begins any more, and soon nothing is accepted."""
        self._ended = False
        """No connection is served any more."""
        self._wakes: set[int] = set()
        """An eventfd for each accept loop that runs."""

    def threads(self) -> list[threading.Thread]:
        """Those that accept and serve now."""
        with self._lock:
            return list(self._threads)

    # At addresses

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
        """Starts the thread of a connection that is taken over; False if there can be none."""
        raise NotImplementedError


def _listener(at: _A | socket.socket) -> tuple[Listener, _A | None]:
    if isinstance(at, Address):
        return at.listen()
    if not isinstance(at, socket.socket):
        raise TypeError(f"an address or a listening socket wanted, not {type(at).__name__}")
    return Listener(at), None
