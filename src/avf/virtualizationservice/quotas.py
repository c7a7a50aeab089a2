"""What one party may take, so that there is something left for the others."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable

from avf.virtualizationservice.parties import Party, Standing

_BUCKETS_MAX = 1024
_LOWEST_FIRST = (Standing.UNKNOWN, Standing.KNOWN, Standing.ROOT)


class RateLimit:
    """At most `burst` at once and `per_second` in the long run, for each key of its own."""

    def __init__(
        self, burst: int, per_second: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[Hashable, tuple[float, float]] = {}
        """What is left, and since when."""

    def take(self, key: Hashable) -> bool:
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

    def _left(self, key: Hashable, now: float) -> float:
        left, since = self._buckets.get(key, (self._burst, now))
        return min(self._burst, left + (now - since) * self._per_second)

    def _forget_full(self, now: float) -> None:
        for key in [k for k in self._buckets if self._left(k, now) >= self._burst]:
            del self._buckets[key]


class Budget:
    """An amount that parties share: connections, CIDs, bytes.

    A sixteenth of `total` is kept for root alone, and another quarter for root and known users. A party other than
    root may have `per_party`, and never more than what is then still to be had by parties of its standing: so k greedy
    parties leave a (k+1)th of it to whoever comes next, and nobody who has nothing is turned away while there is any.
    """

    def __init__(
        self, total: int, per_party: int | None = None, *, bounds_root: bool = False
    ) -> None:
        """`bounds_root`: for what guests take, of root's VMs too; root has the same bound as everybody then."""
        self._bounds_root = bounds_root
        self._per_party = total if per_party is None else per_party
        self._caps = {
            Standing.ROOT: total,
            Standing.KNOWN: total - max(1, total // 16),
            Standing.UNKNOWN: total - max(1, total // 16) - total // 4,
        }
        """What all parties of a standing and of lower ones may have together."""
        self._lock = threading.Lock()
        self._taken: Counter[Party] = Counter()
        self._sums = dict.fromkeys(Standing, 0)

    def take(self, party: Party, amount: int = 1) -> bool:
        """Whether `party` may have `amount` more; if so it has."""
        with self._lock:
            room = self._room(party.standing)
            allowed = room >= amount
            if self._bounds_root or party.standing is not Standing.ROOT:
                has = self._taken[party] + amount
                allowed = allowed and has <= min(self._per_party, room)
            if allowed:
                self._add(party, amount)
            return allowed

    def hold(self, party: Party, amount: int = 1) -> None:
        """Counts what `party` has already, be it too much."""
        with self._lock:
            self._add(party, amount)

    def give_back(self, party: Party, amount: int = 1) -> None:
        """What was taken or held is free again."""
        with self._lock:
            self._add(party, -amount)
            if not self._taken[party]:
                del self._taken[party]

    def of(self, party: Party) -> int:
        """What `party` has."""
        with self._lock:
            return self._taken.get(party, 0)

    def _add(self, party: Party, amount: int) -> None:
        self._taken[party] += amount
        self._sums[party.standing] += amount

    def _room(self, standing: Standing) -> int:
        """What is left for parties of `standing`: each cap is over what they and lower ones have."""
        together, rooms = 0, []
        for each in _LOWEST_FIRST:
            together += self._sums[each]
            rooms.append(self._caps[each] - together)
        return min(rooms[_LOWEST_FIRST.index(standing) :])
