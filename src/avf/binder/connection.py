"""One socket of a session: whole frames in and out, descriptors beside them.

A socket that carries descriptors is read frame by frame, 16 bytes and then exactly the body, since descriptors belong
to the frame they came with the first byte of; others are read in large pieces. A send that would block keeps reading,
so that two ends that both send cannot stop each other.

What is kept for the peer meanwhile counts for its account: parts of frames, frames read ahead, descriptors, and what it
does not take of a frame that is sent to it. Whoever may call only so often is not read until the time has come.
"""

import array
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from . import wire
from .budget import CONNECTIONS, MEMORY, Account, Budget, OverBudget
from .errors import ProtocolError
from .fd import ReceivedFds, close_fds
from .peer import Peer, peer_of
from .session import Frame
from .tls import TlsSocket

if TYPE_CHECKING:
    import ssl  # slow to import, and hardly ever needed

_PIECE = 65536
_FIRST_PIECE = 2 * _PIECE
"""Room made for a body before anything of it has come."""
_HEADER_SIZE = wire.HEADER_SIZE
_DEC_STRONG = wire.DEC_STRONG
_MAX_RECEIVED = wire.MAX_RECEIVED
_unpack_head = wire.FRAME_HEADER.unpack_from
_CONTROL_SIZE = socket.CMSG_SPACE(wire.MAX_FDS * 4)
# Plain ints: combining the enums of `socket` takes longer than a system call.
_DONTWAIT = int(socket.MSG_DONTWAIT)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_CTRUNC = int(socket.MSG_CTRUNC)
_SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_MAX_EARLY = 16
"""Frames read ahead while a send is blocked."""
_EARLY_COST = 256
"""Bytes a frame read ahead takes beside its body."""
_LOOK_AFTER = 0.5
"""Seconds after which a connection that waits for its turn to be read looks at the clock again."""

ReceivedFrame = tuple[int, "bytes | bytearray", "list[int] | None"]
"""command, body, descriptors"""
_Control = list[tuple[int, int, "array.array[int]"]]


class TooMuchData(ProtocolError):
    """A frame beyond the limit: this connection cannot be read any further."""


class Connection:
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

    # Receiving

    def ask(self, frame: bytes | bytearray | memoryview) -> bytes | None:
        """Sends a frame, or the rest of one, and receives what comes next, as `receive` does."""
        if frame:
            self.send(frame)
        return self.receive()

    def receive(self) -> bytes | None:
        """Blocks for the next bytes, which are most often one frame or an answer; None if `read_frame` is to be used.

        Who cannot tell what they are gives them to `unread`. Raises EOFError, OSError.
        """
        begun = self._pos != len(self._buffer) or self._size >= 0
        if begun or not self._straight or self._watched or self._early:
            return None
        piece = self.sock.recv(_PIECE)
        if not piece:
            raise EOFError("the peer closed the connection")
        return piece

    @property
    def can_be_polled(self) -> bool:
        """Whether its socket tells all there is to know of what has come, and nothing else ends the waiting."""
        return self._tls is None and self._frame_timeout is None and not self._watched

    def send_now(self, frame: bytes | bytearray) -> bytes | bytearray | memoryview:
        """Sends without waiting; what is left to be sent."""
        try:
            sent = self.sock.send(frame, _SEND_FLAGS)
        except BlockingIOError:
            return frame
        return memoryview(frame)[sent:] if sent < len(frame) else b""

    def receive_now(self) -> bytes | None:
        """`receive` without waiting; empty if nothing has come."""
        begun = self._pos != len(self._buffer) or self._size >= 0
        if begun or not self._straight or self._watched or self._early:
            return None
        try:
            piece = self.sock.recv(_PIECE, _DONTWAIT)
        except BlockingIOError:
            return b""
        if not piece:
            raise EOFError("the peer closed the connection")
        return piece

    def unread(self, piece: bytes) -> None:
        """Has `read_frame` go on with the bytes that `receive` has just returned."""
        self._buffer = piece
        self._pos = 0

    def read_frame(self) -> ReceivedFrame:
        """Blocks for a frame. Raises EOFError, OSError, ProtocolError."""
        if self._early:
            return self._take_early()
        if self._watched:
            self._await_turn()
        if self._size < 0 and self._straight:
            frame = self._step_buffer(0)  # most often all there is to do
            if frame is not None:
                return frame
        while True:
            timed = self._frame_timeout is not None and (self._begun or self._tls is not None)
            frame = self._step_in_time() if timed else self._step(0)
            if frame is not None:
                self._deadline = None
                return frame
            if self._watched and (self._got or self._size < 0):
                self._await_turn()  # a piece costs as much as a frame

    def _take_early(self) -> ReceivedFrame:
        frame = self._early.popleft()
        self._let_go(len(frame[1]) + _EARLY_COST)
        return frame

    def _await_turn(self) -> None:
        """Waits until the party may call once more, and, in a set-up with a deadline, for something to read."""
        while not self._shut and (wait := self.account.call()):
            self._pause(min(wait, _LOOK_AFTER))
        if self._until is not None:
            self._poll(select.POLLIN, self._until)

    def _pause(self, seconds: float) -> None:
        """Waits, but not beyond `shutdown`. That the peer hangs up gives it no turn."""
        poll = select.poll()
        poll.register(self.sock, 0)
        if poll.poll(1000 * seconds) and not self._shut:
            time.sleep(seconds)

    @property
    def _begun(self) -> bool:
        """Whether a part of a frame has come."""
        if self._size >= 0 or self._pos != len(self._buffer):
            return True
        return self._tls is not None and (self._tls.in_record or self._tls.pending > 0)

    def _step_in_time(self) -> ReceivedFrame | None:
        """One more piece of a frame, before its deadline if it has begun."""
        self._check_deadline()
        try:
            return self._step(_DONTWAIT)
        except BlockingIOError:
            self._check_deadline()
        self._poll(select.POLLIN, self._deadline)
        return None

    def _check_deadline(self) -> None:
        """Begins the time of a frame that has begun. Raises ProtocolError when it is over."""
        if self._frame_timeout is None or not self._begun:
            self._deadline = None
            return
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._frame_timeout
        elif now >= self._deadline:
            raise ProtocolError(f"a frame did not come in {self._frame_timeout} s")

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

    @property
    def has_early(self) -> bool:
        """Whether a frame was read ahead."""
        return bool(self._early)

    @property
    def has_unread(self) -> bool:
        """Whether something is to be read of which the socket does not tell."""
        return self._pending > 0 and not self._early

    @property
    def has_whole(self) -> bool:
        """Whether a frame, or what is none, can be taken without asking the socket."""
        if pending := self._pending:
            if self._size >= 0:
                return True
            self._buffer = self._buffer[self._pos :] + self.sock.recv(pending)
            self._pos = 0
        buffer, pos = self._buffer, self._pos
        have = len(buffer) - pos
        if have < _HEADER_SIZE:
            return False
        command: int
        size: int
        command, size = _unpack_head(buffer, pos)
        return command >= _DEC_STRONG or size > _MAX_RECEIVED or have >= _HEADER_SIZE + size

    def keep(self, frame: ReceivedFrame) -> None:
        """Keeps a frame for the next `read_frame`. Raises OverBudget."""
        try:
            self._hold(len(frame[1]) + _EARLY_COST)
        except OverBudget:
            close_fds(frame[2] or ())
            raise
        self._early.append(frame)

    def poll_frame(self) -> ReceivedFrame | None:
        """A frame, if one can be had without waiting."""
        if self._early:
            return self._take_early()
        if self._watched and self.account.call():
            return None
        try:
            while True:
                frame = self._step(_DONTWAIT)
                if frame is not None:
                    self._deadline = None
                    return frame
        except BlockingIOError:
            self._check_deadline()
            return None

    def _step(self, flags: int) -> ReceivedFrame | None:
        """At most one receive; the frame, if it is complete now."""
        if self._size >= 0:
            return self._step_body(flags)
        return self._step_fd_head(flags) if self._receives_fds else self._step_buffer(flags)

    def _step_buffer(self, flags: int) -> ReceivedFrame | None:
        buffer, pos = self._buffer, self._pos
        have = len(buffer) - pos
        if have < _HEADER_SIZE:
            if have and not flags and self._frame_timeout is not None:
                return None  # to be waited for until its deadline
            piece = self.sock.recv(_PIECE, flags)
            if not piece:
                raise EOFError("the peer closed the connection")
            self._buffer = buffer = buffer[pos:] + piece if have else piece
            self._pos = pos = 0
            have = len(buffer)
            if have < _HEADER_SIZE:
                return None
        command, size = _unpack_head(buffer, pos)
        if command >= _DEC_STRONG or size > _MAX_RECEIVED:
            check_frame(command, size)
        start = pos + _HEADER_SIZE
        stop = start + size
        if stop <= len(buffer):
            self._pos = stop
            return command, buffer[start:stop], None
        self._hold(size)
        self._command, self._size = command, size
        self._body = bytearray(size)
        self._got = len(buffer) - start
        self._body[: self._got] = buffer[start:]
        self._buffer, self._pos = b"", 0
        return None

    def _step_fd_head(self, flags: int) -> ReceivedFrame | None:
        head = self._buffer
        assert isinstance(self.sock, socket.socket)
        piece, control, message_flags, _ = self.sock.recvmsg(
            wire.HEADER_SIZE - len(head), _CONTROL_SIZE, flags | _CLOEXEC
        )
        if control:
            self._add_fds(received_fds(control))
        if message_flags & _CTRUNC:
            raise ProtocolError("file descriptors were lost on the way")
        if not piece:
            raise EOFError("the peer closed the connection")
        if head:
            piece = head + piece
        if len(piece) < wire.HEADER_SIZE:
            self._buffer = piece
            return None
        self._buffer = b""
        command, size = wire.FRAME_HEADER.unpack(piece)
        check_frame(command, size)
        if size == 0:
            fds, self._fds = self._fds, None
            return command, b"", fds
        self._command, self._size, self._got, self._body = command, size, 0, None
        return None

    def _add_fds(self, fds: list[int]) -> None:
        """Takes descriptors over that came with a part of a header."""
        if self._fds is None:
            self._fds = ReceivedFds(self.account)
        self._fds += fds
        if len(self._fds) > wire.MAX_FDS:
            raise ProtocolError(f"{len(self._fds)} file descriptors with one frame")
        self._fds.charge()

    def _step_body(self, flags: int) -> ReceivedFrame | None:
        body = self._body
        if body is None:
            piece = self.sock.recv(min(self._size, _FIRST_PIECE), flags)
            if len(piece) == self._size:
                return self._complete(piece)
            count = len(piece)
            if not count:
                raise EOFError("the peer closed the connection")
            self._hold(self._size)
            self._body = body = bytearray(self._size)
            body[:count] = piece
        else:
            count = self.sock.recv_into(memoryview(body)[self._got :], 0, flags)
        if not count:
            raise EOFError("the peer closed the connection")
        self._got += count
        return self._complete(body) if self._got == self._size else None

    def _complete(self, body: bytes | bytearray) -> ReceivedFrame:
        fds, self._fds = self._fds, None
        if self._body is not None:
            self._let_go(self._size)
        self._size = -1
        self._body = None
        self._got = 0
        if fds and self._command == wire.DEC_STRONG:
            close_fds(fds)
            fds = None
        return self._command, body, fds

    # Sending

    def send_frame(self, frame: Frame) -> None:
        """Raises OSError, and as reading does if it has to read meanwhile."""
        if frame.before:
            self.send(frame.before)
        parcel = frame.parcel
        if parcel is None or not parcel.descriptors:
            self.send(frame.data)
            return
        fds = parcel.filenos()
        assert isinstance(self.sock, socket.socket)
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        try:
            sent = self.sock.sendmsg([frame.data], control, _SEND_FLAGS)
        except BlockingIOError:
            sent = self._send_waiting(frame.data, control)
        if sent < len(frame.data):
            self.send(memoryview(frame.data)[sent:])

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of `data`, reading while it has to wait."""
        try:
            sent = self.sock.send(data, _SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        size = len(data) - sent
        if not size:
            return
        self._hold(size)
        try:
            deadline = self._send_deadline()
            rest = memoryview(data)[sent:]
            while rest:
                self._wait_to_send(deadline)
                try:
                    rest = rest[self.sock.send(rest, _SEND_FLAGS) :]
                except BlockingIOError:
                    pass
        finally:
            self._let_go(size)

    def _send_waiting(self, data: bytes | bytearray | memoryview, control: _Control) -> int:
        """Sends the first part of `data` with descriptors; the size of it."""
        assert isinstance(self.sock, socket.socket)
        self._hold(len(data))
        try:
            deadline = self._send_deadline()
            while True:
                self._wait_to_send(deadline)
                try:
                    return self.sock.sendmsg([data], control, _SEND_FLAGS)
                except BlockingIOError:
                    pass
        finally:
            self._let_go(len(data))

    def _send_deadline(self) -> float | None:
        timeout = self._frame_timeout
        return None if timeout is None else time.monotonic() + timeout

    def _wait_to_send(self, deadline: float | None) -> None:
        events = select.POLLOUT
        if len(self._early) < _MAX_EARLY:
            events |= select.POLLIN
        happened = self._poll(events, deadline)
        if not happened:
            raise ProtocolError(f"the peer did not take a frame in {self._frame_timeout} s")
        if happened & select.POLLIN:
            self._read_early()

    def _read_early(self) -> None:
        if self._watched:
            self._await_turn()
        try:
            frame = self._step(_DONTWAIT)
        except BlockingIOError:
            return
        if frame is None:
            return
        self._deadline = None
        if frame[0] == wire.DEC_STRONG:
            self.on_return(frame[1])
            return
        self.keep(frame)

    def writable(self) -> bool:
        """Whether a small message can be sent without waiting."""
        return bool(_happened(self.sock, select.POLLOUT) & select.POLLOUT)

    def wait_either(self) -> None:
        """Waits until there is something to read or something can be sent."""
        if self._watched and (wait := self.account.call()):
            self._pause(min(wait, _LOOK_AFTER))
        else:
            self._poll(select.POLLIN | select.POLLOUT, self._deadline)

    # Ending

    def is_busy(self) -> bool:
        """Whether a call that came on it is being served, or something is to be read."""
        unread = self._begun or self._early
        return bool(self.running or unread or _happened(self.sock, select.POLLIN))

    def shutdown_if_idle(self) -> None:
        """Wakes whoever waits for the peer, unless something has come that is still to be read."""
        if self.answering or not (self._pending or _happened(self.sock, select.POLLIN)):
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

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def wait_to_read(connections: list[Connection], seconds: float) -> None:
    """Waits until something has come on one of the connections, but no longer than that."""
    poll = select.poll()
    if any(connection.has_unread for connection in connections):
        return
    for connection in connections:
        if (fd := connection.sock.fileno()) >= 0:
            poll.register(fd, select.POLLIN)
    poll.poll(1000 * seconds)


def _happened(sock: socket.socket | TlsSocket, events: int) -> int:
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


def check_frame(command: int, size: int) -> None:
    """Raises ProtocolError for a frame that is not to be read."""
    if command == wire.TRANSACT:
        if size > wire.MAX_RECEIVED:
            raise TooMuchData(f"TRANSACT of {size} bytes")
    elif command == wire.REPLY:
        if size > wire.MAX_RECEIVED + wire.REPLY_BODY.size:
            raise TooMuchData(f"REPLY of {size} bytes")
    elif command != wire.DEC_STRONG:
        raise ProtocolError(f"unknown command {command}")
    elif size != wire.DEC_STRONG_SIZE:
        raise ProtocolError(f"DEC_STRONG of {size} bytes")


def received_fds(control: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors in a control message."""
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
