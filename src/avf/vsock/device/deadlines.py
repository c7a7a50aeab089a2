"""Who must have moved on by when, and who wants to be tried again at once."""

from collections.abc import Callable

from avf.vsock.device.connection import Connection

RETRY_INTERVAL = 0.01
TICK_INTERVAL = 0.5


class Deadlines:
    """Looked at every half second, or every hundredth while there are retries: coarse, but of bounded size."""

    __slots__ = ("_clock", "_next", "_timed", "retries")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = 0.0
        self._timed: dict[Connection, float] = {}
        self.retries: set[Connection] = set()

    def set(self, connection: Connection, seconds: float) -> None:
        """Gives a connection that much time from now."""
        self._timed[connection] = self._clock() + seconds

    def clear(self, connection: Connection) -> None:
        """The connection may take as long as it likes."""
        self._timed.pop(connection, None)

    def retry(self, connection: Connection) -> None:
        """Asks for a further attempt soon."""
        self.retries.add(connection)
        self._next = 0.0

    def forget(self, connection: Connection) -> None:
        """The connection has gone."""
        self._timed.pop(connection, None)
        self.retries.discard(connection)

    @property
    def patience(self) -> float | None:
        """After how many seconds there may be something to do; None: never."""
        if self.retries:
            return RETRY_INTERVAL
        return TICK_INTERVAL if self._timed else None

    def due(self) -> bool:
        """Whether it is time to look; starts the next interval if so."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + (RETRY_INTERVAL if self.retries else TICK_INTERVAL)
        return True

    def expired(self) -> list[Connection]:
        """Those whose time is over."""
        now = self._clock()
        return [connection for connection, end in self._timed.items() if end <= now]
