"""How a connection is read: whole frames in, descriptors beside them.

A socket that carries descriptors is read frame by frame, 16 bytes and then exactly the body, since descriptors belong
to the frame they came with the first byte of; others are read in large pieces.

What is kept for the peer meanwhile counts for its account: parts of frames, frames read ahead, descriptors. Whoever may
call only so often is not read until the time has come.
"""

import select
import socket
import time

from . import wire
from .budget import OverBudget
from .channel import Channel
from .errors import ProtocolError
from .fd import ReceivedFds, close_fds
from .incoming import ReceivedFrame, check_frame, received_fds

_PIECE = 69_632
"""Bytes received at once, at most: an array of 64 KiB comes in one piece with what is around it."""
_FIRST_PIECE = 131_072
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
_EARLY_COST = 256
"""Bytes a frame read ahead takes beside its body."""
_LOOK_AFTER = 0.5
"""Seconds after which a connection that waits for its turn to be read looks at the clock again."""


class ReceivingChannel(Channel):
    """A channel that is read."""

    __slots__ = ()

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

    # What has come

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

    # One receive

    def _take_early(self) -> ReceivedFrame:
        frame = self._early.popleft()
        self._let_go(len(frame[1]) + _EARLY_COST)
        return frame

    def _step_in_time(self) -> ReceivedFrame | None:
        """One more piece of a frame, before its deadline if it has begun."""
        self._check_deadline()
        try:
            return self._step(_DONTWAIT)
        except BlockingIOError:
            self._check_deadline()
        self._poll(select.POLLIN, self._deadline)
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

    # Waiting

    def _await_turn(self) -> None:
        """Waits until the party may call once more, and, in a set-up with a deadline, for something to read."""
        while not self._shut and (wait := self.account.call()):
            self._pause(min(wait, _LOOK_AFTER))
        if self._until is not None:
            self._poll(select.POLLIN, self._until)

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
