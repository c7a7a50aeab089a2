"""Reads connections that no call uses: one thread for all sessions of the process.

A peer gives references back whenever it likes, also on a connection on which nobody waits for a reply. Unread, they
would fill the socket until the peer blocks in sending one more, and serves no call any more. The thread looks at what
has not been used for a while only, so that calls that follow one another closely never meet it. The delay also spares
libbinder: it aborts if it learns that nobody wants an object of its own any more while a thread of it still runs a
oneway call of that object, and it gives the references of all calls back together, also those of calls that still run.
"""

import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from .connection import Connection
from .errors import note, report

_TICK = 0.05
"""Seconds that a connection must have been free, at least, before it is watched."""


class Owner(Protocol):
    """A session end, as the thread sees it. Its methods run no user code and do not block."""

    def watch_idle(self, watch: "IdleReader") -> bool:
        """Has the connections watched that have been free for a while; whether that is all of the free ones."""

    def read_idle(self, connection: Connection) -> None:
        """Reads what has come on a watched connection."""


class IdleReader:
    """The thread, which runs while there is a session end that makes calls."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # an owner may leave in the middle of anything
        self._owners = 0
        self._recent: deque[Owner] = deque()
        """Owners with free connections that are not watched."""
        self._watched: dict[int, tuple[weakref.ref[Owner], weakref.ref[Connection]]] = {}
        self._epoll: select.epoll | None = None
        self._wake = -1

    # For owners

    def enter(self) -> None:
        """Counts one more owner, which is to call `leave`."""
        with self._lock:
            self._owners += 1
            if self._epoll is not None:
                return
            self._epoll = select.epoll()
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._epoll.register(self._wake, select.EPOLLIN)
            try:
                threading.Thread(target=self._run, name="binder-idle", daemon=True).start()
            except RuntimeError as error:  # no more threads
                note(f"idle connections are not read: {error}")
                self._close()

    def leave(self) -> None:
        with self._lock:
            self._owners -= 1
            self._notify()

    def tell(self, owner: Owner) -> None:
        """The owner has free connections that are not watched."""
        with self._lock:
            if self._epoll is not None:
                self._recent.append(owner)
                if len(self._recent) == 1:
                    self._notify()

    def _notify(self) -> None:
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def watch(self, owner: Owner, connection: Connection, *, also_to_write: bool) -> None:
        """Has the owner read the connection, once, when something comes, or perhaps when something can be sent."""
        if self._epoll is None:
            return
        fd = connection.sock.fileno()
        events = select.EPOLLIN | select.EPOLLONESHOT | (select.EPOLLOUT if also_to_write else 0)
        self._watched[fd] = weakref.ref(owner), weakref.ref(connection)
        connection.watched = True
        self._epoll.register(fd, events)

    def forget(self, connection: Connection) -> None:
        """Watches a connection no longer."""
        connection.watched = False
        fd = connection.sock.fileno()
        if self._watched.pop(fd, None) is not None and self._epoll is not None:
            with suppress(OSError, ValueError):  # the thread may have ended just now
                self._epoll.unregister(fd)

    # The thread

    def _run(self) -> None:
        epoll, wake = self._epoll, self._wake
        assert epoll is not None
        looked = time.monotonic()
        while not self._all_left():
            for fd, _ in epoll.poll(_TICK if self._recent else None):
                if fd == wake:
                    os.eventfd_read(wake)
                else:
                    self._read(fd)
            now = time.monotonic()
            if now - looked >= _TICK:
                looked = now
                self._look()

    def _read(self, fd: int) -> None:
        known = self._watched.get(fd)
        if known is None:
            return
        owner, connection = known[0](), known[1]()
        if owner is not None and connection is not None:
            with _going_on():
                owner.read_idle(connection)

    def _look(self) -> None:
        for _ in range(len(self._recent)):
            owner = self._recent.popleft()
            with _going_on():
                if not owner.watch_idle(self):
                    self._recent.append(owner)

    def _all_left(self) -> bool:
        """Whether no owner is left; all is closed then."""
        with self._lock:
            if self._owners > 0:
                return False
            self._close()
            return True

    def _close(self) -> None:
        assert self._epoll is not None
        self._epoll.close()
        os.close(self._wake)
        self._epoll, self._wake = None, -1
        self._watched.clear()
        self._recent.clear()


@contextmanager
def _going_on() -> Iterator[None]:
    """What goes wrong with one owner, for want of threads or memory, is not to harm the others."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - nobody else could catch it
        report(error)


reader = IdleReader()


def _after_fork() -> None:
    """The child has no such thread, and what it inherits is the parent's."""
    global reader
    reader = IdleReader()


os.register_at_fork(after_in_child=_after_fork)
