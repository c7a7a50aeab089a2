"""What one user may take, so that there is something left for the others."""

import threading
import time
from collections.abc import Callable

from avf.binder import Peer

_BUCKETS_MAX = 1024


class RateLimit:
    """At most `burst` at once and `per_second` in the long run, for each key of its own."""

    def __init__(
        self, burst: int, per_second: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[int, tuple[float, float]] = {}
        """What is left, and since when."""

    def take(self, key: int) -> bool:
        """Whether one more is within the limit; if so it is counted."""
        with self._lock:
            now = self._clock()
            left = self._left(key, now)
            if left < 1:
                return False
            if len(self._buckets) >= _BUCKETS_MAX:
                self._forget_full(now)
            self._buckets[key] = (left - 1, now)
            return True

    def _left(self, key: int, now: float) -> float:
        left, since = self._buckets.get(key, (self._burst, now))
        return min(self._burst, left + (now - since) * self._per_second)

    def _forget_full(self, now: float) -> None:
        for key in [k for k in self._buckets if self._left(k, now) >= self._burst]:
            del self._buckets[key]


class ConnectionQuota:
    """Decides over connections: at most `limit` that are open at a time for each uid but root.

    For use as `Server(accept=...)`, which asks in the thread that serves the connection to its end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._threads: dict[int, set[threading.Thread]] = {}

    def __call__(self, peer: Peer) -> bool:
        if peer.uid == 0:
            return True
        if peer.uid is None:
            return False
        with self._lock:
            serving = {t for t in self._threads.get(peer.uid, ()) if t.is_alive()}
            admitted = len(serving) < self._limit
            if admitted:
                serving.add(threading.current_thread())
            self._threads[peer.uid] = serving
            return admitted
