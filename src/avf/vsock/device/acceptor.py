"""Greets those of the host who come in through BASE."""

import socket
import time
from collections.abc import Callable

from avf.vsock.address import PORT_MAX
from avf.vsock.device import loop as events_of
from avf.vsock.device.loop import Loop

GREETING_SECONDS = 10.0
GREETINGS_MAX = 64

_LINE_MAX = len(b"CONNECT 4294967295\r\n")
_TICK_INTERVAL = 0.5


class _Greeting:
    """Someone connected to BASE and has not said yet where to."""

    __slots__ = ("deadline", "line", "sock")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self.line = b""


class Acceptor:
    """Accepts on a listener, BASE. Each connection says "CONNECT PORT\\n"; the last byte of it is left in
    the socket, with all that follows.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        open_connection: Callable[[socket.socket, int], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes `listener` over."""
        self._loop = loop
        self._open = open_connection
        self._clock = clock
        self._greetings: set[_Greeting] = set()
        self._listener = listener
        self._listener.setblocking(False)
        self._resume_at: float | None = None
        self._listen()

    @property
    def patience(self) -> float | None:
        """After how many seconds `tick` wants to be called; None: not at all."""
        return _TICK_INTERVAL if self._greetings or self._resume_at is not None else None

    def tick(self) -> None:
        """Turns away those who said nothing for too long, and listens again after a pause."""
        if self.patience is None:
            return
        now = self._clock()
        for greeting in [g for g in self._greetings if g.deadline <= now]:
            self._turn_away(greeting)
        if self._resume_at is not None and self._resume_at <= now:
            self._listen()

    def close(self) -> None:
        """Stops listening."""
        for greeting in list(self._greetings):
            self._turn_away(greeting)
        self._loop.remove(self._listener.fileno())
        self._listener.close()

    def _listen(self) -> None:
        self._resume_at = None
        self._loop.add(self._listener.fileno(), events_of.IN, self._on_connection)

    def _pause(self) -> None:
        self._loop.remove(self._listener.fileno())
        self._resume_at = self._clock() + _TICK_INTERVAL

    def _on_connection(self, _: int) -> None:
        if len(self._greetings) >= GREETINGS_MAX:
            self._pause()
            return
        try:
            sock, _address = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:
            self._pause()  # out of descriptors
            return
        sock.setblocking(False)
        greeting = _Greeting(sock, self._clock() + GREETING_SECONDS)
        self._greetings.add(greeting)
        self._loop.add(sock.fileno(), events_of.IN, lambda events: self._on_line(greeting))

    def _on_line(self, greeting: _Greeting) -> None:
        try:
            port = self._read_line(greeting)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._turn_away(greeting)
            return
        if port is None:
            return
        self._greetings.discard(greeting)
        self._loop.remove(greeting.sock.fileno())
        if not self._open(greeting.sock, port):
            _drop_newline(greeting.sock)
            greeting.sock.close()

    def _read_line(self, greeting: _Greeting) -> int | None:
        """The port, once the line is complete. Raises ValueError for anything but a good line, or OSError."""
        seen = greeting.sock.recv(_LINE_MAX - len(greeting.line), socket.MSG_PEEK)
        if not seen:
            raise ValueError("the line ends early")
        text, newline, _ = seen.partition(b"\n")
        if text:
            greeting.line += greeting.sock.recv(len(text))
        if newline:
            return _parse_connect(greeting.line)
        if len(greeting.line) >= _LINE_MAX:
            raise ValueError("the line is too long")
        return None

    def _turn_away(self, greeting: _Greeting) -> None:
        self._greetings.discard(greeting)
        _drop_newline(greeting.sock)
        self._loop.close_socket(greeting.sock)


def _drop_newline(sock: socket.socket) -> None:
    """Has a connection end in an end of file, unless more than the line was sent."""
    try:
        sock.recv(1)
    except OSError:
        pass  # there is none, or the socket is closed already


def _parse_connect(line: bytes) -> int:
    word, _, number = line.strip().partition(b" ")
    if word != b"CONNECT" or not number.isdigit() or int(number) > PORT_MAX:
        raise ValueError("not CONNECT and a port")
    return int(number)
