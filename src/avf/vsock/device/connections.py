"""All connections of one guest: packets from it go to sockets of the host, and the other way round.

Memory is bounded whatever the guest does: so many connections, so much backlog for each, so many refusals waiting.
"""

import os
import socket
import time
from collections.abc import Callable

from avf.vsock.address import HOST_CID
from avf.vsock.device import loop as events_of
from avf.vsock.device.connection import Connection, State
from avf.vsock.device.deadlines import Deadlines
from avf.vsock.device.loop import Loop
from avf.vsock.device.outbox import Outbox
from avf.vsock.device.packet import NEITHER, NO_RECEIVE, NO_SEND, TYPE_STREAM, Header, Op, reset_of
from avf.vsock.device.receiver import Receiver

CONNECTIONS_MAX = 1023

WINDOW = 256 * 1024
SMALL_WINDOW = 64 * 1024
_LARGE_WINDOWS = 128

DIAL_SECONDS = 2.0
ANSWER_SECONDS = 30.0
LINGER_SECONDS = 8.0
"""As Linux: how long a guest may keep a connection whose host side is gone."""

_FIRST_HOST_PORT = 1 << 30
_LAST_HOST_PORT = (1 << 31) - 1
_SOCKET_EVENTS = events_of.IN | events_of.READ_HANGUP | events_of.EDGE
_READ_EVENTS = events_of.IN | events_of.READ_HANGUP | events_of.HANGUP | events_of.ERROR

Dial = Callable[[int, int], socket.socket | None]
"""Connects a port of the guest, named second, to what listens for a port of the host.

Returns a non-blocking socket, or None if nothing listens. BlockingIOError: try again.
"""


class Connections:
    """The table of connections, the queue of those that have something for the guest, and the refusals owed to it."""

    def __init__(
        self,
        loop: Loop,
        cid: int,
        dial: Dial,
        *,
        limit: int = CONNECTIONS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._cid = cid
        self._dial = dial
        self._limit = limit
        self._table: dict[tuple[int, int], Connection] = {}
        self._orphans: set[Connection] = set()
        self._deadlines = Deadlines(clock)
        self._outbox = Outbox(self._say_farewell)
        self._next_host_port = _some_host_port()
        self._operations = {
            Op.RESPONSE: self._on_response,
            Op.RST: self._on_rst,
            Op.SHUTDOWN: self._on_shutdown,
            Op.RW: self._on_data,
            Op.CREDIT_UPDATE: self._on_credit_update,
            Op.CREDIT_REQUEST: self._on_credit_request,
        }

    def __len__(self) -> int:
        return len(self._table) + len(self._orphans)

    @property
    def full(self) -> bool:
        """Whether no further connection is possible."""
        return len(self) >= self._limit

    @property
    def congested(self) -> bool:
        """Whether the guest must first take the refusals it is owed."""
        return self._outbox.congested

    @property
    def backlog(self) -> int:
        """Bytes of the guest that wait for the host to take them."""
        everybody = (*self._table.values(), *self._orphans)
        return sum(len(connection.backlog) for connection in everybody)

    # --- from the guest

    def handle(self, header: Header, payload: list[memoryview]) -> None:
        """One packet of the guest."""
        if header.src_cid != self._cid:
            return
        connection = self._table.get((header.dst_port, header.src_port))
        if header.type != TYPE_STREAM or header.dst_cid != HOST_CID:
            self._refuse_packet(header)
        elif connection is None:
            if header.op == Op.REQUEST and not self.full:
                self._on_request(header)
            else:
                self._refuse_packet(header)
        else:
            operation = self._operations.get(header.op)  # type: ignore[call-overload]
            if operation is None or not connection.learn(header):
                self._reset(connection)
                return
            operation(connection, header, payload)
            self._mark(connection)

    def _on_request(self, header: Header) -> None:
        connection = Connection(
            self._cid, header.dst_port, header.src_port, State.DIALLING, self._window()
        )
        connection.learn(header)
        self._table[connection.key] = connection
        self._try_dial(connection)
        if connection.state is State.DIALLING:
            self._deadlines.retry(connection)
            self._deadlines.set(connection, DIAL_SECONDS)

    def _try_dial(self, connection: Connection) -> None:
        try:
            sock = self._dial(connection.host_port, connection.guest_port)
        except BlockingIOError:
            return
        self._deadlines.forget(connection)
        if sock is None or not self._adopt(connection, sock, holds=False):
            self._reset(connection)
            return
        connection.state = State.OPEN
        connection.opening = Op.RESPONSE
        self._mark(connection)

    def retry(self, host_port: int, guest_port: int) -> None:
        """What the guest asked for can be dialled now, or cannot be at all."""
        connection = self._table.get((host_port, guest_port))
        if connection is not None and connection.state is State.DIALLING:
            self._try_dial(connection)

    def _on_response(self, connection: Connection, header: Header, _: list[memoryview]) -> None:
        if connection.state is not State.REQUESTED or connection.opening is not None:
            self._reset(connection)
            return
        self._deadlines.clear(connection)
        connection.state = State.OPEN
        if not connection.answer(b"OK %d\n" % connection.host_port):
            self._reset(connection)

    def _on_rst(self, connection: Connection, header: Header, _: list[memoryview]) -> None:
        self._part(connection)

    def _on_shutdown(self, connection: Connection, header: Header, _: list[memoryview]) -> None:
        if connection.state in (State.DIALLING, State.REQUESTED):
            self._reset(connection)
            return
        news = header.flags & NEITHER & ~connection.guest_shut
        connection.guest_shut |= news
        if news & NO_RECEIVE:
            connection.shut_read()
        self._settle(connection)

    def _on_data(self, connection: Connection, header: Header, payload: list[memoryview]) -> None:
        connected = connection.state is State.OPEN or connection.state is State.CLOSING
        shut = connection.guest_shut & NO_SEND
        if connected and not shut and connection.has_room(header.length):
            connection.forward(payload, header.length)
            self._watch(connection)
        else:
            self._reset(connection)

    def _on_credit_update(
        self, connection: Connection, header: Header, _: list[memoryview]
    ) -> None:
        """Its credit has been learnt already."""

    def _on_credit_request(
        self, connection: Connection, header: Header, _: list[memoryview]
    ) -> None:
        connection.owes_credit = True

    # --- from the host

    def open(self, sock: socket.socket, guest_port: int) -> bool:
        """Connects a socket of the host to a port of the guest; takes it over if True is returned.

        One byte that is not for the guest must be left in the socket.
        """
        host_port = self._free_host_port(guest_port)
        if self.full or host_port is None:
            return False
        connection = Connection(self._cid, host_port, guest_port, State.REQUESTED, self._window())
        connection.opening = Op.REQUEST
        self._table[connection.key] = connection
        if not self._adopt(connection, sock, holds=True):
            self._forget(connection)
            return False
        self._deadlines.set(connection, ANSWER_SECONDS)
        self._mark(connection)
        return True

    def _free_host_port(self, guest_port: int) -> int | None:
        for _ in range(self._limit + 1):
            port = self._next_host_port
            self._next_host_port = port + 1 if port < _LAST_HOST_PORT else _FIRST_HOST_PORT
            if (port, guest_port) not in self._table:
                return port
        return None

    def _adopt(self, connection: Connection, sock: socket.socket, *, holds: bool) -> bool:
        try:
            connection.take_over(sock, holds=holds)
            self._loop.add(
                sock.fileno(), _SOCKET_EVENTS, lambda events: self._on_socket(connection, events)
            )
        except OSError:
            connection.sock = None
            sock.close()
            return False
        return True

    def _on_socket(self, connection: Connection, events: int) -> None:
        if events & (events_of.HANGUP | events_of.ERROR):
            connection.hangup = True
        if connection.state is State.ORPHAN:
            self._on_orphan(connection)
            return
        if connection.state is State.REQUESTED:
            if connection.hangup:
                self._abandon(connection)
            elif events & _READ_EVENTS:
                connection.readable = True
            return
        if events & _READ_EVENTS:
            connection.readable = True
        if events & events_of.OUT and connection.backlog:
            connection.flush()
            self._watch(connection)
            self._settle(connection)
        self._notice_hangup(connection)
        self._mark(connection)

    def _watch(self, connection: Connection) -> None:
        """Waits for room in the socket exactly as long as something waits for it."""
        waiting = bool(connection.backlog)
        if waiting != connection.waiting and connection.sock is not None:
            connection.waiting = waiting
            events = _SOCKET_EVENTS | events_of.OUT if waiting else _SOCKET_EVENTS
            self._loop.modify(connection.sock.fileno(), events)

    def _notice_hangup(self, connection: Connection) -> None:
        """A socket that hung up is done once everything in it has been read or nobody will read it."""
        done = connection.host_shut & NO_SEND or connection.guest_shut & NO_RECEIVE
        if connection.hangup and done and connection.state is State.OPEN:
            connection.host_shut = NEITHER

    def _on_orphan(self, connection: Connection) -> None:
        connection.flush()
        if not connection.backlog and connection.guest_shut & NO_SEND:
            connection.finish()
        if connection.hangup or not connection.backlog:
            self._close(connection)

    def _abandon(self, connection: Connection) -> None:
        """The host asked for a connection and left before the guest answered."""
        if connection.opening is None:
            self._reset(connection)
        else:
            self._close(connection)

    # --- to the guest

    def pump(self, receiver: Receiver) -> bool:
        """Fills the guest's buffers with what waits for it; True if more could go now. Raises GuestError."""
        return self._outbox.pump(receiver)

    def _mark(self, connection: Connection) -> None:
        """Queues a connection that has something for the guest."""
        if self._table.get(connection.key) is connection:
            self._outbox.mark(connection)

    def _say_farewell(self, connection: Connection) -> None:
        """The guest has been told that the host is gone; it may take its time to answer, but not for ever."""
        connection.state = State.CLOSING
        self._drop_socket(connection)
        self._deadlines.set(connection, LINGER_SECONDS)

    # --- time

    @property
    def patience(self) -> float | None:
        """After how many seconds `tick` wants to be called; None: not at all."""
        return self._deadlines.patience

    def tick(self) -> None:
        """Tries again to reach busy listeners, and gives up on what took too long; may be called at any time."""
        if not self._deadlines.due():
            return
        for connection in list(self._deadlines.retries):
            self._try_dial(connection)
        for connection in self._deadlines.expired():
            if connection.state is State.REQUESTED:
                self._abandon(connection)
            else:
                self._reset(connection)

    # --- endings

    def restart(self) -> None:
        """The guest's driver is a new one: closes everything it cannot know of; requests not yet sent to it remain."""
        self._outbox.forgive()
        for connection in list(self._table.values()):
            if connection.opening is not Op.REQUEST:
                self._part(connection)

    def part(self) -> None:
        """The guest is gone: closes everything but what it sent last and the host has not taken yet."""
        self._outbox.forgive()
        for connection in list(self._table.values()):
            self._part(connection)

    def close(self) -> None:
        """Closes everything."""
        self._outbox.forgive()
        for connection in [*self._table.values(), *self._orphans]:
            self._close(connection)

    def _settle(self, connection: Connection) -> None:
        """Passes on how far the guest has shut its side down, as soon as all it sent before has gone."""
        if connection.backlog:
            return
        if connection.guest_shut == NEITHER:
            connection.finish()
            self._reset(connection)
        elif connection.guest_shut & NO_SEND:
            connection.shut_write()

    def _reset(self, connection: Connection) -> None:
        """Ends a connection and tells the guest so."""
        self._outbox.refuse(connection.header(Op.RST))
        self._part(connection)

    def _part(self, connection: Connection) -> None:
        """The guest has done with a connection; what it sent last still reaches the host."""
        if connection.backlog and connection.state is State.OPEN:
            self._forget(connection)
            connection.state = State.ORPHAN
            self._orphans.add(connection)
        else:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.state is State.REQUESTED:
            connection.finish()  # a refusal is an end of file
        self._forget(connection)
        connection.state = State.GONE
        self._drop_socket(connection)

    def _forget(self, connection: Connection) -> None:
        if self._table.get(connection.key) is connection:
            del self._table[connection.key]
        self._orphans.discard(connection)
        self._deadlines.forget(connection)
        self._outbox.discard(connection)

    def _drop_socket(self, connection: Connection) -> None:
        sock, connection.sock = connection.sock, None
        connection.backlog = bytearray()
        if sock is not None:
            self._loop.close_socket(sock)

    def _refuse_packet(self, header: Header) -> None:
        """Answers a packet that belongs to no connection; a reset is never answered."""
        if header.op != Op.RST:
            self._outbox.refuse(reset_of(header))

    def _window(self) -> int:
        """A smaller one once there are many, to bound what all of them can hold."""
        return WINDOW if len(self) < _LARGE_WINDOWS else SMALL_WINDOW


def _some_host_port() -> int:
    """Where counting begins: a guest that is a copy of a running one may still know connections of before."""
    return _FIRST_HOST_PORT + int.from_bytes(os.urandom(4)) % (
        _LAST_HOST_PORT - _FIRST_HOST_PORT + 1
    )
