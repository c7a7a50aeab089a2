"""One socket of a session: whole frames in and out, descriptors beside them.

A send that would block keeps reading, so that two ends that both send cannot stop each other. What the peer does not
take of a frame that is sent to it counts for its account.
"""

import array
import errno
import select
import socket
import time

from . import wire
from .channel import happened
from .errors import ProtocolError
from .receiving import ReceivingChannel
from .session import Frame

# Plain ints: combining the enums of `socket` takes longer than a system call.
_DONTWAIT = int(socket.MSG_DONTWAIT)
_SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_MAX_EARLY = 16
"""Frames read ahead while a send is blocked."""
_LOOK_AFTER = 0.5
"""Seconds after which a connection that waits for its turn to be read looks at the clock again."""

_MAX_TRIES = 1000
"""How often descriptors are sent again that the kernel refuses because its user has too many under way: more than a
process of that user may have open, in all sockets together (unix(7), ETOOMANYREFS).
"""
_TRY_AGAIN = 0.01
"""Seconds between two tries."""

_Control = list[tuple[int, int, "array.array[int]"]]


class Connection(ReceivingChannel):
    """A connected stream socket, with what it takes to send on it and to end it."""

    __slots__ = ()

    # Sending

    def ask(self, frame: bytes | bytearray | memoryview) -> bytes | None:
        """Sends a frame, or the rest of one, and receives what comes next, as `receive` does."""
        if frame:
            self.send(frame)
        return self.receive()

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
        sent = self._send_with_descriptors(frame.data, control)
        if not sent:
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
            tries = 0
            while True:
                self._wait_to_send(deadline)
                if sent := self._send_with_descriptors(data, control, tries):
                    return sent
                tries += 1
        finally:
            self._let_go(len(data))

    def _send_with_descriptors(
        self, data: bytes | bytearray | memoryview, control: _Control, tries: int = 0
    ) -> int:
        """The size of what was sent: 0 if it has to be tried again."""
        assert isinstance(self.sock, socket.socket)
        try:
            return self.sock.sendmsg([data], control, _SEND_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS or tries >= _MAX_TRIES:
                raise
        time.sleep(_TRY_AGAIN)  # nothing tells when there is room
        return 0

    def send_now(self, frame: bytes | bytearray) -> bytes | bytearray | memoryview:
        """Sends without waiting; what is left to be sent."""
        try:
            sent = self.sock.send(frame, _SEND_FLAGS)
        except BlockingIOError:
            return frame
        return memoryview(frame)[sent:] if sent < len(frame) else b""

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
        return bool(happened(self.sock, select.POLLOUT) & select.POLLOUT)

    def wait_either(self) -> None:
        """Waits until there is something to read or something can be sent."""
        if self._watched and (wait := self.account.call()):
            self._pause(min(wait, _LOOK_AFTER))
        else:
            self._poll(select.POLLIN | select.POLLOUT, self._deadline)

    def is_busy(self) -> bool:
        """Whether a call that came on it is being served, or something is to be read."""
        unread = self._begun or self._early
        return bool(self.running or unread or happened(self.sock, select.POLLIN))


def wait_to_read(connections: list[Connection], seconds: float) -> None:
    """Waits until something has come on one of the connections, but no longer than that."""
    poll = select.poll()
    if any(connection.has_unread for connection in connections):
        return
    for connection in connections:
        if (fd := connection.sock.fileno()) >= 0:
            poll.register(fd, select.POLLIN)
    poll.poll(1000 * seconds)
