"""A flag that a thread can wait for together with other descriptors."""

import os
import select
import threading
from contextlib import suppress


class Flag:
    """Hoisted by one thread, waited for by another, closed by either, in any order."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._closed = False

    def hoist(self) -> None:
        """Does nothing once it is closed."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._fd, 1)

    def lower(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def wait(self, seconds: float, *others: int) -> set[int]:
        """The descriptors that are ready, of `others` and, as -1, of the flag itself; none after `seconds`."""
        poll = select.poll()
        for fd in (self._fd, *others):
            poll.register(fd, select.POLLIN)
        return {-1 if fd == self._fd else fd for fd, _ in poll.poll(seconds * 1000)}

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._fd)
