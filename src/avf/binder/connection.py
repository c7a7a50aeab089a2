"""One socket of a session: whole frames in and out, descriptors beside them.

A socket that carries descriptors is read frame by frame, 16 bytes and then exactly the body, since descriptors belong
to the frame they came with the first byte of; others are read in large pieces. A send that would block keeps reading,
so that two ends that both send cannot stop each other.
"""

import array
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from . import wire
from .errors import ProtocolError
from .parcel import close_fds
from .peer import Peer, peer_of
from .session import Frame

_PIECE = 65536
_HEADER_SIZE = wire.HEADER_SIZE
_DEC_STRONG = wire.DEC_STRONG
_unpack_head = wire.FRAME_HEADER.unpack_from
_CONTROL_SIZE = socket.CMSG_SPACE(wire.MAX_FDS * 4)
# Plain ints: combining the enums of `socket` takes longer than a system call.
_DONTWAIT = int(socket.MSG_DONTWAIT)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_CTRUNC = int(socket.MSG_CTRUNC)
_SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_MAX_EARLY = 16
"""Frames read ahead while a send is blocked."""

ReceivedFrame = tuple[int, "bytes | bytearray", "list[int] | None"]
"""command, body, descriptors"""


class TooMuchData(ProtocolError):
    """A frame beyond the limit: this connection cannot be read any further."""


class Connection:
    """Owns a connected stream socket. Read and written by one thread at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.peer: Peer = peer_of(sock)
        self.session: object = None
        """The session end that has it."""
        self.on_return: Callable[[bytes | bytearray], None] = lambda body: None
        """Takes the DEC_STRONG bodies that arrive while a send is blocked."""
        self._receives_fds = False
        self._max_body = wire.MAX_BODY
        self._frame_timeout: float | None = None
        self._deadline = 0.0
        self._early: deque[ReceivedFrame] = deque()
        self._buffer = b""
        self._pos = 0
        self._command = 0
        self._fds: list[int] | None = None
        self._body: bytearray | None = None
        self._got = 0
        self._size = -1

    def start_frames(
        self,
        *,
        receive_fds: bool,
        max_body: int = wire.MAX_BODY,
        frame_timeout: float | None = None,
    ) -> None:
        """The connection is set up; frames follow.

        `frame_timeout` seconds bound how long a frame that has begun may take to come, and how long the peer may take
        nothing of one that is sent: ProtocolError.
        """
        self._frame_timeout = frame_timeout
        self._receives_fds = receive_fds
        self._max_body = max_body
        self.sock.settimeout(None)

    def read_exactly(self, size: int) -> bytes:
        """For set-up. Raises EOFError."""
        data = b""
        while len(data) < size:
            data += self.read_some(size - len(data))
        return data

    def read_some(self, limit: int) -> bytes:
        """For set-up: at least a byte. Raises EOFError."""
        piece = self.sock.recv(limit)
        if not piece:
            raise EOFError("the peer closed the connection")
        return piece

    # Receiving

    def read_frame(self) -> ReceivedFrame:
        """Blocks for a frame. Raises EOFError, OSError, ProtocolError."""
        if self._early:
            return self._early.popleft()
        if self._size < 0 and not self._receives_fds:
            frame = self._step_buffer(0)  # most often all there is to do
            if frame is not None:
                return frame
        while True:
            if self._frame_timeout is not None:
                self._await_rest(self._frame_timeout)
            frame = self._step(0)
            if frame is not None:
                self._deadline = 0.0
                return frame

    def _await_rest(self, timeout: float) -> None:
        """Waits for more of a frame that has begun."""
        if self._size < 0 and self._pos == len(self._buffer):
            return
        now = time.monotonic()
        if not self._deadline:
            self._deadline = now + timeout
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        if now >= self._deadline or not poll.poll(1000 * (self._deadline - now)):
            raise ProtocolError(f"a frame did not come in {timeout} s")

    def poll_frame(self) -> ReceivedFrame | None:
        """A frame, if one can be had without waiting."""
        if self._early:
            return self._early.popleft()
        try:
            while True:
                frame = self._step(_DONTWAIT)
                if frame is not None:
                    return frame
        except BlockingIOError:
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
            piece = self.sock.recv(_PIECE, flags)
            if not piece:
                raise EOFError("the peer closed the connection")
            self._buffer = buffer = buffer[pos:] + piece if have else piece
            self._pos = pos = 0
            have = len(buffer)
            if have < _HEADER_SIZE:
                return None
        command, size = _unpack_head(buffer, pos)
        if command >= _DEC_STRONG or size > self._max_body:
            check_frame(command, size, self._max_body)
        start = pos + _HEADER_SIZE
        stop = start + size
        if stop <= len(buffer):
            self._pos = stop
            return command, buffer[start:stop], None
        self._command, self._size = command, size
        self._body = bytearray(size)
        self._got = len(buffer) - start
        self._body[: self._got] = buffer[start:]
        self._buffer, self._pos = b"", 0
        return None

    def _step_fd_head(self, flags: int) -> ReceivedFrame | None:
        head = self._buffer
        piece, control, message_flags, _ = self.sock.recvmsg(
            wire.HEADER_SIZE - len(head), _CONTROL_SIZE, flags | _CLOEXEC
        )
        if control:
            self._fds = (self._fds or []) + received_fds(control)
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
        check_frame(command, size, self._max_body)
        if size == 0:
            fds, self._fds = self._fds, None
            return command, b"", fds
        self._command, self._size, self._got, self._body = command, size, 0, None
        return None

    def _step_body(self, flags: int) -> ReceivedFrame | None:
        body = self._body
        if body is None:
            piece = self.sock.recv(self._size, flags)
            if len(piece) == self._size:
                return self._complete(piece)
            count = len(piece)
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
        self._size = -1
        self._body = None
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
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        while True:
            try:
                sent = self.sock.sendmsg([frame.data], control, _SEND_FLAGS)
                break
            except BlockingIOError:
                self._wait_to_send()
        if sent < len(frame.data):
            self.send(memoryview(frame.data)[sent:])

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of `data`, reading while it has to wait."""
        while True:
            try:
                sent = self.sock.send(data, _SEND_FLAGS)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            self._wait_to_send()

    def _wait_to_send(self) -> None:
        poll = select.poll()
        events = select.POLLOUT
        if len(self._early) < _MAX_EARLY:
            events |= select.POLLIN
        poll.register(self.sock, events)
        timeout = self._frame_timeout
        events_seen = poll.poll(None if timeout is None else 1000 * timeout)
        if not events_seen:
            raise ProtocolError(f"the peer took nothing for {timeout} s")
        for _, happened in events_seen:
            if happened & select.POLLIN:
                self._read_early()

    def _read_early(self) -> None:
        try:
            frame = self._step(_DONTWAIT)
        except BlockingIOError:
            return
        if frame is None:
            return
        if frame[0] == wire.DEC_STRONG:
            self.on_return(frame[1])
        else:
            self._early.append(frame)

    # Ending

    def shutdown(self) -> None:
        """Wakes whoever reads or writes the socket; close it afterwards."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        self.sock.close()
        close_fds(self._fds or ())
        self._fds = None
        while self._early:
            close_fds(self._early.popleft()[2] or ())

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def check_frame(command: int, size: int, max_body: int) -> None:
    """Raises ProtocolError for a frame that is not to be read."""
    if command == wire.TRANSACT:
        if size > max_body:
            raise TooMuchData(f"TRANSACT of {size} bytes")
    elif command == wire.REPLY:
        if size > max_body + wire.REPLY_BODY.size:
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
