"""The connections on which one session end makes its calls, each lent to one call at a time.

They are chosen as libbinder chooses them: the first free one from a certain place on, which moves on with every oneway
call. So sync calls keep to the connection used last, and oneway calls spread over all of them.
"""

import threading

from .connection import Connection
from .errors import DeadObjectError, Status, StatusError


class Outgoing:
    """The connections. `lock` is the session's; a method whose name begins with `take` or `put` needs it held."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._changed = threading.Condition(lock)
        self._waiting = 0
        self._all: list[Connection] = []
        self._place = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: Connection) -> None:
        """With the lock held. The connection is lent to whoever adds it."""
        connection.lent = True
        self._all.append(connection)

    def borrow(self, *, oneway: bool) -> Connection:
        """Waits for a free connection. Raises DeadObjectError once closed, WOULD_BLOCK if there is none at all."""
        with self._lock:
            if not oneway and (current := self.take_current()) is not None:  # most often
                return current
            while True:
                if self._closed:
                    raise DeadObjectError("the session has ended")
                free = self.take_free(oneway=oneway)
                if free is not None:
                    return free
                if not self._all:
                    raise StatusError(
                        Status.WOULD_BLOCK, "the session has no connection for calls from here"
                    )
                self._wait()

    def current(self) -> Connection | None:
        """The connection that sync calls keep to."""
        return self._all[self._place] if self._all else None

    def take_current(self) -> Connection | None:
        """The same, now lent, if it is free."""
        if not self._all:
            return None
        found = self._all[self._place]
        if found.lent:
            return None
        found.lent = True
        return found

    def _wait(self) -> None:
        self._waiting += 1
        try:
            self._changed.wait()
        except BaseException:
            self._changed.notify()  # this thread's turn may have come
            raise
        finally:
            self._waiting -= 1

    def take_free(self, *, oneway: bool = False) -> Connection | None:
        """A free connection, now lent."""
        connections, place = self._all, self._place
        for index in range(place, place + len(connections)):
            found = connections[index % len(connections)]
            if not found.lent:
                if oneway:
                    self._place = (place + 1) % len(connections)
                found.lent = True
                return found
        return None

    def put_back(self, connection: Connection) -> bool:
        """Ends the lending; False if the connection is to be closed instead."""
        if self._closed:
            return False
        connection.lent = False
        if self._waiting:
            self._changed.notify()
        return True

    def free(self) -> list[Connection]:
        """Those that are not lent."""
        return [connection for connection in self._all if not connection.lent]

    def close(self) -> list[Connection]:
        """Lends no more, and wakes those who wait; the connections that are not lent. With the lock held."""
        self._closed = True
        left = self.free()
        self._all.clear()
        self._changed.notify_all()
        return left
