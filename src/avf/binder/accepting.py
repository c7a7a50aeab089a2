"""Waiting for connections, also when no descriptor is left."""

import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from .fd import close_fds


class SpareDescriptors:
    """Descriptors kept open for the time when there are no others."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[int] = []

    def refill(self) -> None:
        while len(self._kept) < self._count:
            try:
                self._kept.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                return

    @contextmanager
    def lent(self) -> Iterator[None]:
        """One of them is free to be used."""
        if self._kept:
            os.close(self._kept.pop())
        yield
        self.refill()

    def close(self) -> None:
        close_fds(self._kept)
        self._kept.clear()


def wait(sock: socket.socket, wake: int) -> bool:
    """Waits for something to read; False once there is something on `wake`."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(wake, select.POLLIN)
    return wake not in [fd for fd, _ in poll.poll()]


def hears(wake: int, seconds: float) -> bool:
    """Whether there is something on `wake` within that time."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    return bool(poll.poll(1000 * seconds))
