"""One stream between a guest's port and a unix socket of the host: its state, its credit, its bytes."""

import os
import socket
import sys
from enum import Enum

from avf.vsock.address import HOST_CID
from avf.vsock.device.packet import NEITHER, NO_RECEIVE, NO_SEND, TYPE_STREAM, Header, Op

_WRAP = 0xFFFF_FFFF
_CREDIT_MAX = 0x7FFF_FFFF
_BURST_MAX = 64
_ONE_DESCRIPTOR = socket.CMSG_LEN(4)
_SO_PEEK_OFF = 42
"""socket(7); Python has no name for it."""

_discarded = bytearray(64 * 1024)
"""Where what was read already is read to once more."""


class State(Enum):
    """Where a connection stands."""

    DIALLING = "dialling"
    """The guest asked; the host's listener has no room in its backlog yet."""
    REQUESTED = "requested"
    """The host asked; the guest has not answered."""
    OPEN = "open"
    CLOSING = "closing"
    """The host is gone and the guest is being told; there is no socket any more."""
    ORPHAN = "orphan"
    """The guest is gone; what it sent last is still being delivered."""
    GONE = "gone"


class Connection:
    """Bytes towards the host: received from the guest, then forwarded, `backlog` in between, never more than `window`.

    Bytes towards the guest: never more than `credit`, and only as the guest has buffers for them, so they wait in the
    socket. Counters here do not wrap; the ones in packets do.

    A unix socket that is closed with something unread resets its peer (ECONNRESET), however it comes to be closed. So
    the last byte that the host sent is left in the socket until the guest has ended its sending properly: the host can
    then tell a stream that was cut from one that is whole, even if this process is killed.
    """

    __slots__ = (
        "_credit_wanted",
        "_looked",
        "_peer_forwarded",
        "_peer_window",
        "_reported",
        "_sent",
        "_write_shut",
        "backlog",
        "burst",
        "cid",
        "forwarded",
        "guest_port",
        "guest_shut",
        "hangup",
        "holds",
        "host_port",
        "host_shut",
        "opening",
        "owes_credit",
        "owes_credit_request",
        "readable",
        "received",
        "sock",
        "state",
        "told_shut",
        "waiting",
        "window",
    )

    def __init__(
        self, cid: int, host_port: int, guest_port: int, state: State, window: int
    ) -> None:
        self.cid = cid
        self.host_port = host_port
        self.guest_port = guest_port
        self.state = state
        self.sock: socket.socket | None = None
        self.opening: Op | None = None
        # towards the host
        self.window = window
        self.received = 0
        self.forwarded = 0
        self._reported = 0
        self.backlog = bytearray()
        self.waiting = False
        self.guest_shut = 0
        self._write_shut = False
        self.owes_credit = False
        # towards the guest
        self._sent = 0
        self._peer_window = 0
        self._peer_forwarded = 0
        self.holds = False
        self._looked = False
        self.readable = False
        self.hangup = False
        self.burst = 1
        self.host_shut = 0
        self.told_shut = 0
        self.owes_credit_request = False
        self._credit_wanted = False

    @property
    def key(self) -> tuple[int, int]:
        """What the connection is found by."""
        return self.host_port, self.guest_port

    @property
    def credit(self) -> int:
        """How many bytes the guest has room for."""
        room = min(self._peer_window, _CREDIT_MAX) - (self._sent - self._peer_forwarded)
        return max(room, 0)

    def learn(self, header: Header) -> bool:
        """Takes the guest's credit from a packet; False if it acknowledges what was never sent.

        Packets can overtake each other inside the guest, so an older count is no offence and changes nothing.
        """
        self._peer_window = header.buf_alloc
        outstanding = (self._sent - header.fwd_cnt) & _WRAP
        if outstanding <= self._sent - self._peer_forwarded:
            self._peer_forwarded = self._sent - outstanding
        elif outstanding > _CREDIT_MAX:
            return False
        if self.credit:
            self._credit_wanted = False
        return True

    def header(self, op: Op, length: int = 0, flags: int = 0) -> Header:
        """The head of a packet to the guest; it carries the present credit, which is thereby told."""
        self._reported = self.forwarded
        self.owes_credit = False
        return Header(
            HOST_CID,
            self.cid,
            self.host_port,
            self.guest_port,
            length,
            TYPE_STREAM,
            op,
            flags,
            self.window,
            self.forwarded & _WRAP,
        )

    def take_over(self, sock: socket.socket, *, holds: bool) -> None:
        """Gives the connection its socket; `holds`: a byte that is not for the guest is in it. Raises OSError."""
        sock.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, int(holds))
        self.sock = sock
        self.holds = self._looked = holds

    # --- guest to host

    def has_room(self, length: int) -> bool:
        """Whether the guest may send that much."""
        return self.received - self.forwarded + length <= self.window

    def forward(self, pieces: list[memoryview], length: int) -> None:
        """Sends data of the guest on, keeping what the socket does not take now."""
        self.received += length
        if self._deaf:
            self._count_forwarded(length)
            return
        done = 0
        if not self.backlog:
            done = self._write(pieces)
            self._count_forwarded(done)
        if done < length and not self._deaf:
            self._keep(pieces, done)
        elif done < length:
            self._count_forwarded(length - done)

    def flush(self) -> None:
        """Sends on what was kept, as far as the socket takes it."""
        while self.backlog:
            with memoryview(self.backlog) as view:
                done = self._write([view])
            if self._deaf:
                return
            if not done:
                return
            del self.backlog[:done]
            self._count_forwarded(done)

    def shut_write(self) -> None:
        """Passes on that the guest sends no more, once everything it sent has gone."""
        if self.sock is not None and not self._write_shut and not self.backlog:
            self._write_shut = True
            self._shutdown(socket.SHUT_WR)
            self._look_for_mark()
            self._discard(int(self.holds))
            self.holds = False

    def finish(self) -> None:
        """Has the socket end in an end of file when it is closed: nothing was lost."""
        self._shutdown(socket.SHUT_RDWR)  # now nothing can be added to what is unread
        try:
            while self.sock is not None and self.sock.recv_into(_discarded):
                pass
        except OSError:
            pass

    def shut_read(self) -> None:
        """Passes on that the guest reads no more: writers get EPIPE."""
        self._shutdown(socket.SHUT_RD)

    def answer(self, line: bytes) -> bool:
        """Writes a line to a fresh socket of the host; False if that failed."""
        try:
            return self.sock is not None and self.sock.send(line) == len(line)
        except OSError:
            return False

    # --- host to guest

    @property
    def may_read(self) -> bool:
        """Whether there may be data for the guest, and it has room."""
        return (
            self.readable
            and self.state is State.OPEN
            and not self.guest_shut & NO_RECEIVE
            and not self.host_shut & NO_SEND
            and self.credit > 0
        )

    def read_into(self, buffers: list[memoryview], room: int) -> int:
        """Reads what the host sent; returns how much, 0 for nothing now or (see `host_shut`) ever again."""
        if self.sock is None:
            return 0
        self._look_for_mark()
        try:
            count = self.sock.recvmsg_into(buffers, 0, socket.MSG_PEEK)[0]
        except BlockingIOError:
            self.readable = False
            self.burst = 1
            return 0
        except OSError:
            count = 0
        if not count:
            self.readable = False
            self.host_shut |= NEITHER if self.hangup else NO_SEND
            return 0
        keeps = not self.holds and not self._write_shut
        self._discard(count - keeps)
        self.holds |= keeps
        self._sent += count
        self.burst = min(self.burst * 2, _BURST_MAX) if count == room else 1
        return count

    def want_credit(self) -> None:
        """Notes that data waits for the guest to make room, and asks it once."""
        if self.readable and not self._credit_wanted and not self.credit:
            self._credit_wanted = True
            self.owes_credit_request = True

    @property
    def has_work(self) -> bool:
        """Whether a packet could go to the guest now."""
        return (
            self.opening is not None
            or self.may_read
            or self.host_shut != self.told_shut
            or self.owes_credit
            or self.owes_credit_request
        )

    # --- inside

    @property
    def _deaf(self) -> bool:
        return self.sock is None or bool(self.host_shut & NO_RECEIVE)

    def _write(self, pieces: list[memoryview]) -> int:
        assert self.sock is not None
        try:
            if len(pieces) == 1:
                return self.sock.send(pieces[0])
            return self.sock.sendmsg(pieces)
        except BlockingIOError:
            return 0
        except OSError:
            self.host_shut |= NO_RECEIVE
            self._count_forwarded(len(self.backlog))
            self._drop_backlog()
            return 0

    def _look_for_mark(self) -> None:
        """A first byte that brings a descriptor is the host's wish to be reset, as of `expect_reset`, and stays."""
        if self._looked or self.sock is None:
            return
        try:
            _, records, _, _ = self.sock.recvmsg(1, _ONE_DESCRIPTOR, socket.MSG_PEEK)
        except OSError:
            return  # nothing has come yet
        self._looked = True
        is_mark = bool(records)
        for _, _, descriptor in records:
            os.close(int.from_bytes(descriptor, sys.byteorder))
        if is_mark and not self._write_shut:
            self.holds = True
            return
        self._discard(int(is_mark))
        self.sock.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)

    def _discard(self, count: int) -> None:
        """Takes out of the socket what was read by peeking."""
        try:
            while count and self.sock is not None:
                count -= self.sock.recv_into(_discarded, min(count, len(_discarded)))
        except OSError:
            pass  # somebody else reads from this socket too

    def _keep(self, pieces: list[memoryview], skip: int) -> None:
        for piece in pieces:
            if skip < len(piece):
                self.backlog += piece[skip:]
            skip = max(0, skip - len(piece))

    def _drop_backlog(self) -> None:
        # A new object: the old one may be exported to the call that just failed.
        self.backlog = bytearray()

    def _count_forwarded(self, count: int) -> None:
        self.forwarded += count
        # Against the smaller of the two windows: Linux stops sending at its own (seen with 6.1).
        threshold = min(self.window, self._peer_window) // 4
        if self.forwarded - self._reported > threshold and self.state is not State.ORPHAN:
            self.owes_credit = True

    def _shutdown(self, how: int) -> None:
        if self.sock is None:
            return
        try:
            self.sock.shutdown(how)
        except OSError:
            pass  # the peer is gone, which its hang-up event tells
