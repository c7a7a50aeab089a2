"""Between a command in the guest and this process: what it reads, what it writes, and how it ends."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from signal import NSIG
from typing import NamedTuple

from avf.client.errors import ShellFailed
from avf.shell import (
    MAX_PAYLOAD,
    Decoder,
    Failure,
    Frame,
    Kind,
    Outlet,
    ProtocolError,
    Request,
    Window,
    encode,
)

Sink = Callable[[bytes], None]
"""Takes output. BrokenPipeError: nobody reads it any more."""
_OUTPUTS = {Kind.OUTPUT: 1, Kind.ERRORS: 2}
_LONGEST_INPUT = 32 << 10


class Ending(NamedTuple):
    """How a command ended: with an exit status, or by a signal."""

    status: int
    signal: int | None = None

    @property
    def returncode(self) -> int:
        """As of `subprocess`: the exit status, or the signal's number below zero."""
        return self.status if self.signal is None else -self.signal


class Relay:
    """Runs one command over a connection to the shell service, in the thread that calls `run`."""

    def __init__(
        self,
        connection: socket.socket,
        request: Request,
        source: int | None,
        sinks: Mapping[int, int | Sink],
        typed: Callable[[bytes], bytes] = bytes,
    ) -> None:
        """Takes over `connection`; `source`, for standard input, stays the caller's.

        `sinks`: for output 1 and 2, a descriptor or a function. `typed` sees what is read from `source`, and gives what
        is passed on.
        """
        self._connection = connection
        self._source = source
        self._sinks = {
            number: _writer(sink) if isinstance(sink, int) else sink
            for number, sink in sinks.items()
        }
        self._typed = typed
        self._decoder = Decoder()
        self._outgoing = Outlet(connection)
        self._window = Window()
        self._ending: Ending | None = None
        self._lock = threading.RLock()
        self._orders = bytearray()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._outgoing.give(encode(Kind.REQUEST, request.encode()))
        if source is None:
            self._outgoing.give(encode(Kind.INPUT_END))

    def signal(self, number: int) -> None:
        """Sends a signal to the command's process group. From any thread, or a signal handler."""
        self._order(encode(Kind.SIGNAL, bytes([number])))

    def resize(self, rows: int, columns: int) -> None:
        """Tells the command that its terminal has another size. As `signal`."""
        size = rows.to_bytes(2, "little") + columns.to_bytes(2, "little")
        self._order(encode(Kind.RESIZE, size))

    def leave(self) -> None:
        """Has `run` end with ShellFailed; the command is hung up. As `signal`."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is over

    def run(self, timeout: float | None = None) -> Ending:
        """Until the command has ended. Raises ShellFailed, or TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._connection.setblocking(False)
        try:
            while self._ending is None:
                self._step(deadline)
        except ProtocolError as error:
            raise ShellFailed(str(error)) from error
        return self._ending

    def close(self) -> None:
        """A command that has not ended is hung up."""
        self._connection.close()
        with self._lock:
            wake, self._wake = self._wake, -1
        if wake >= 0:
            os.close(wake)

    def _order(self, frame: bytes) -> None:
        with self._lock:
            self._orders += frame
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _step(self, deadline: float | None) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._connection, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
        if self._source is not None and self._window.left and not self._outgoing:
            poll.register(self._source, select.POLLIN)
        happened = dict(poll.poll(_milliseconds(deadline)))
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError("the command takes too long")
        if self._wake in happened:
            self._take_orders()
        if self._connection.fileno() in happened:
            self._receive()
        if self._source is not None and self._source in happened:
            self._read(self._source)
        try:
            self._outgoing.flush()
        except OSError:
            self._outgoing.clear()  # why it has gone, if it said so, is still to be read

    def _take_orders(self) -> None:
        """A signal handler may come in between, and order more."""
        with self._lock:
            os.eventfd_read(self._wake)
            count = len(self._orders)
            self._outgoing.give(bytes(self._orders[:count]))
            del self._orders[:count]

    def _read(self, source: int) -> None:
        data = os.read(source, min(self._window.left, _LONGEST_INPUT))
        if not data:
            self._source = None
            self._outgoing.give(encode(Kind.INPUT_END))
        elif passed := self._typed(data):
            self._window.use(len(passed))
            self._outgoing.give(encode(Kind.INPUT, passed))

    def _receive(self) -> None:
        try:
            data = self._connection.recv(MAX_PAYLOAD)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise ShellFailed("the guest has gone, or was left, before the command ended")
        for frame in self._decoder.feed(data):
            if self._ending is not None:
                raise ProtocolError("the guest went on after the end of the command")
            self._accept(frame)

    def _accept(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.OUTPUT | Kind.ERRORS:
                self._write(_OUTPUTS[frame.kind], frame.payload)
            case Kind.GRANT if len(frame.payload) == 4:
                self._window.grant(int.from_bytes(frame.payload, "little"))
            case Kind.EXITED if len(frame.payload) == 1:
                self._ending = Ending(frame.payload[0])
            case Kind.KILLED if len(frame.payload) == 1 and 0 < frame.payload[0] < NSIG:
                self._ending = Ending(128 + frame.payload[0], frame.payload[0])
            case Kind.FAILED:
                failure = Failure.decode(frame.payload)
                raise ShellFailed(failure.text, failure.status)
            case other:
                raise ProtocolError(f"the guest sent {other.name} of {len(frame.payload)} bytes")

    def _write(self, number: int, data: bytes) -> None:
        sink = self._sinks.get(number)
        if sink is None:
            return
        try:
            sink(data)
        except BrokenPipeError:
            del self._sinks[number]
            self._outgoing.give(encode(Kind.UNREAD, bytes([number])))


def _writer(fd: int) -> Sink:
    """Writes all of it to a descriptor, and waits for that."""

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    return write


def _milliseconds(deadline: float | None) -> int | None:
    return None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
