"""One thread's event loop over epoll: descriptors to handlers, and a tick while somebody waits for time to pass."""

import os
import select
import socket
from collections.abc import Callable

Handler = Callable[[int], None]
"""Called with the epoll events of its descriptor."""

EDGE = select.EPOLLET
IN = select.EPOLLIN
OUT = select.EPOLLOUT
HANGUP = select.EPOLLHUP
READ_HANGUP = select.EPOLLRDHUP
ERROR = select.EPOLLERR

_BATCH = 256


class Loop:
    """Closing goes through the loop: a number is not free for reuse before the events already fetched are handled."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._doomed: list[int] = []

    def add(self, fd: int, events: int, handler: Handler) -> None:
        """Calls `handler` on `events` of `fd`. Raises OSError if `fd` cannot be polled."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        """Changes the events of a descriptor that was added."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forgets a descriptor and leaves it open."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close_socket(self, sock: socket.socket) -> None:
        """Forgets a socket and closes it before the loop waits again."""
        self.close_fd(sock.detach())

    def close_fd(self, fd: int) -> None:
        """Forgets a descriptor and closes it before the loop waits again."""
        self.remove(fd)
        self._doomed.append(fd)

    def turn(self, timeout: float | None) -> int:
        """Closes what was to be closed, waits up to `timeout` seconds, handles one batch of events; how many."""
        self.sweep()
        batch = self._epoll.poll(timeout, _BATCH)
        for fd, events in batch:
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(events)
        return len(batch)

    def sweep(self) -> None:
        """Closes what was to be closed."""
        while self._doomed:
            os.close(self._doomed.pop())

    def close(self) -> None:
        """Closes the epoll descriptor; descriptors that were added stay their owners'."""
        self.sweep()
        self._handlers.clear()
        self._epoll.close()
