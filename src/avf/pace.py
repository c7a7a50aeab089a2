"""How fast one party may have another work for it."""

import threading
import time
from collections.abc import Callable


class Pace:
    """An allowance that fills up with time: `rate` a second, `burst` at most. Any thread may spend of it."""

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._left = burst
        self._then = clock()

    def spend(self, amount: float) -> None:
        """Takes `amount`, whether it is there or not."""
        with self._lock:
            self._fill()
            self._left -= amount

    def take(self, amount: float) -> bool:
        """Takes `amount` if it is there."""
        with self._lock:
            self._fill()
            if self._left < amount:
                return False
            self._left -= amount
            return True

    def pause(self) -> float:
        """Seconds until nothing is owed any more."""
        with self._lock:
            self._fill()
            return max(0.0, -self._left / self._rate)

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._then) * self._rate)
        self._then = now
