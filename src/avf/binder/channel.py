"""A socket of a session: how it is set up, what is kept for its peer, how it is waited for, and its end."""

import select
import socket
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .budget import CONNECTIONS, MEMORY, Account, Budget
from .errors import ProtocolError
from .fd import ReceivedFds, close_fds
from .incoming import ReceivedFrame
from .peer import Peer, peer_of
from .tls import TlsSocket

if TYPE_CHECKING:
    import ssl  # slow to import, and hardly ever needed


class Channel:
    """Owns a connected stream socket. Read and written by one thread at a time.

    `account` has admitted it; without one it counts for a party of its own. `peer` is asked of the socket if it is not
    known, which raises OSError if the peer has gone.
    """

    __slots__ = (
        "__weakref__",
        "_body",
        "_buffer",
        "_command",
        "_counted",
        "_deadline",
        "_early",
        "_fds",
        "_frame_timeout",
        "_got",
        "_held",
        "_pos",
        "_receives_fds",
        "_shut",
        "_size",
        "_straight",
        "_tls",
        "_until",
        "_watched",
        "account",
        "answering",
        "can_be_polled",
        "fresh",
        "lent",
        "on_return",
        "peer",
        "poller",
        "posts",
        "running",
        "session",
        "sock",
        "watched",
    )

    def __init__(
        self,
        sock: socket.socket | TlsSocket,
        account: Account | None = None,
        peer: Peer | None = None,
    ) -> None:
        self.sock = sock
        self._tls = None if isinstance(sock, socket.socket) else sock
        self.account = account if account is not None else Budget().admit("peer")
        self._held = 0
        """Bytes that count for the account."""
        self._counted = True
        """Whether the connection itself does."""
        self._shut = False
        self._until: float | None = None
        self._watched = self.account.paced
        """Whether there is something to see to before reading."""
        self.peer: Peer = peer_of(sock) if peer is None else peer
        self.can_be_polled = False
        """Whether its socket tells all there is to know of what has come, and nothing else ends the waiting."""
        self.session: object = None
        """The session end that has it."""
        self.lent = False
        """Whether a call of ours uses it."""
        self.watched = False
        """Whether it is looked at while no call uses it."""
        self.fresh = False
        """Whether it has been used since that was last considered."""
        self.poller: object = None
        """What is told, without asking for it, when something has come."""
        self.posts = 0
        """Oneway calls sent on it."""
        self.running = 0
        """Calls that came on it and are being served."""
        self.answering = False
        """Whether a sync call that came on it is being served."""
        self.on_return: Callable[[bytes | bytearray], None] = lambda body: None
        """Takes the DEC_STRONG bodies that arrive while a send is blocked."""
        self._receives_fds = False
        self._straight = False
        """Whether a receive that blocks is well for the first bytes of a frame."""
        self._frame_timeout: float | None = None
        self._deadline: float | None = None
        self._early: deque[ReceivedFrame] = deque()
        self._buffer = b""
        self._pos = 0
        self._command = 0
        self._fds: ReceivedFds | None = None
        self._body: bytearray | None = None
        self._got = 0
        self._size = -1

    def secure(self, context: "ssl.SSLContext") -> None:
        """Sets TLS up at the server's end, before the deadline. Raises OSError, TimeoutError, EOFError."""
        assert isinstance(self.sock, socket.socket)
        self.sock = self._tls = TlsSocket(self.sock, context)
        self.set_deadline(self._until)
        self._tls.handshake()
        self.peer = peer_of(self._tls)

    @property
    def party(self) -> tuple[bool, bytes | None]:
        """Whether the peer uses TLS, and its certificate: the same for all connections of a session."""
        return self._tls is not None, self.peer.certificate

    @property
    def _pending(self) -> int:
        """Bytes that have come of which the socket does not know any more."""
        return 0 if self._tls is None else self._tls.pending

    def start_frames(
        self,
        *,
        receive_fds: bool,
        frame_timeout: float | None = None,
    ) -> None:
        """The connection is set up; frames follow.

        `frame_timeout` seconds bound how long a frame that has begun may take to come, and how long one that is sent
        may take to be taken by the peer: ProtocolError. Raises ProtocolError if descriptors cannot come this way.
        """
        if receive_fds and self._tls is not None:
            raise ProtocolError("no file descriptors travel over TLS")
        self._frame_timeout = frame_timeout
        self._receives_fds = receive_fds
        self._straight = not receive_fds and (self._tls is None or frame_timeout is None)
        self.set_deadline(None)

    def set_deadline(self, until: float | None) -> None:
        """From `until` on, by the monotonic clock, reading and sending raise TimeoutError; None: never."""
        self._until = until
        self._watched = until is not None or self.account.paced
        timed = self._watched or self._frame_timeout is not None
        self.can_be_polled = self._tls is None and not timed
        self.sock.settimeout(None if until is None else _left(until))

    def read_exactly(self, size: int) -> bytes:
        """For set-up. Raises EOFError, TimeoutError."""
        data = b""
        while len(data) < size:
            if self._until is not None:
                self.sock.settimeout(_left(self._until))
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise EOFError("the peer closed the connection")
            data += piece
        return data

    # What the peer makes us keep

    def _hold(self, size: int) -> None:
        self.account.take(MEMORY, size)
        self._held += size

    def _let_go(self, size: int) -> None:
        size = min(size, self._held)  # less if it has been closed
        if size:
            self._held -= size
            self.account.give(MEMORY, size)

    # Waiting

    @property
    def _begun(self) -> bool:
        """Whether a part of a frame has come."""
        if self._size >= 0 or self._pos != len(self._buffer):
            return True
        return self._tls is not None and (self._tls.in_record or self._tls.pending > 0)

    def _pause(self, seconds: float) -> None:
        """Waits, but not beyond `shutdown`. That the peer hangs up gives it no turn."""
        poll = select.poll()
        poll.register(self.sock, 0)
        if poll.poll(1000 * seconds) and not self._shut:
            time.sleep(seconds)

    def _poll(self, events: int, deadline: float | None) -> int:
        """Waits for events, and returns those that happened; 0 from the deadline on.

        Raises TimeoutError in a set-up that has lasted too long.
        """
        if self._tls is not None and events & select.POLLIN and self._tls.pending:
            return select.POLLIN
        poll = select.poll()
        poll.register(self.sock, events)
        if deadline is None:
            deadline = self._until
        elif self._until is not None:
            deadline = min(deadline, self._until)
        left = None if deadline is None else deadline - time.monotonic()
        happened = (
            poll.poll(None if left is None else 1000 * left) if left is None or left > 0 else []
        )
        if happened:
            return happened[0][1]
        if self._until is not None:
            _left(self._until)
        return 0

    # Ending

    def shutdown_if_idle(self) -> None:
        """Wakes whoever waits for the peer, unless something has come that is still to be read."""
        if self.answering or not (self._pending or happened(self.sock, select.POLLIN)):
            self.shutdown()

    def shutdown(self) -> None:
        """Wakes whoever reads or writes the socket; close it afterwards."""
        self._shut = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        self.sock.close()
        close_fds(self._fds or ())
        self._fds = self._body = None
        while self._early:
            close_fds(self._early.popleft()[2] or ())
        self._let_go(self._held)
        if self._counted:
            self._counted = False
            self.account.give(CONNECTIONS, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def happened(sock: socket.socket | TlsSocket, events: int) -> int:
    """Which of the events there are now."""
    poll = select.poll()
    poll.register(sock, events)
    found = poll.poll(0)
    return found[0][1] if found else 0


def _left(until: float) -> float:
    """Raises TimeoutError if nothing is."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the session could not be set up in time")
    return left
