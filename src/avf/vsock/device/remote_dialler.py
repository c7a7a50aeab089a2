"""Reaching the host's listeners through the process that started the device."""

import socket
from collections.abc import Callable

from avf.vsock.device import loop as events_of
from avf.vsock.device.loop import Loop
from avf.vsock.dialler import ANSWER, BUSY, CONNECTED, WISH

_BATCH = 64


class RemoteDialler:
    """A `Dial` that sends its wishes to a `DialServer` and says "try again" until the answer has come.

    `on_answer(host_port, guest_port)` is called then; whoever has no more use for the answer does not take it, and it
    is forgotten.
    """

    def __init__(
        self, loop: Loop, sock: socket.socket, on_answer: Callable[[int, int], None]
    ) -> None:
        """Takes `sock` over."""
        self._loop = loop
        self._sock = sock
        self._sock.setblocking(False)
        self._on_answer = on_answer
        self._pending: set[tuple[int, int]] = set()
        self._answers: dict[tuple[int, int], socket.socket | None] = {}
        loop.add(sock.fileno(), events_of.IN, self._on_readable)

    def __call__(self, port: int, guest_port: int) -> socket.socket | None:
        """See `connections.Dial`."""
        key = (port, guest_port)
        if key in self._answers:
            return self._answers.pop(key)
        if key not in self._pending:
            try:
                self._sock.send(WISH.pack(port, guest_port))
            except BlockingIOError:
                raise
            except OSError:
                return None
            self._pending.add(key)
        raise BlockingIOError

    def close(self) -> None:
        self._loop.close_socket(self._sock)

    def _on_readable(self, _: int) -> None:
        for _attempt in range(_BATCH):
            try:
                data, fds, _flags, _address = socket.recv_fds(self._sock, ANSWER.size, 1)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._loop.remove(self._sock.fileno())  # this process ends soon
                return
            self._take(data, fds)

    def _take(self, data: bytes, fds: list[int]) -> None:
        port, guest_port, answer = ANSWER.unpack(data)
        key = (port, guest_port)
        self._pending.discard(key)
        if answer == BUSY:
            return
        connected = None
        if answer == CONNECTED and fds:
            connected = socket.socket(fileno=fds[0])
            connected.setblocking(False)
        self._answers[key] = connected
        self._on_answer(*key)
        unwanted = self._answers.pop(key, None)
        if unwanted is not None:
            unwanted.close()
