"""The order in which the oneway calls of one object run: that of the numbers their caller gave them.

A caller counts from 0 for each object. It counts from 0 again when it has let go of the object and gets it once more:
libbinder forgets the number then, while ours goes on with it. So a number that has been used may mean a call sent twice
or a new beginning; only a caller that has given references back can have begun anew.
"""

import heapq
from typing import Generic, TypeVar

_C = TypeVar("_C")


class OnewayOrder(Generic[_C]):
    """Says which oneway call of an object is to be run; at most one runs at a time. Nothing here locks."""

    __slots__ = ("_expected", "_jump", "_renewed", "_stale", "_waiting", "running")

    def __init__(self) -> None:
        self.running = False
        self._expected = 0
        self._waiting: list[tuple[int, _C]] = []
        """A heap of calls that came before their turn."""
        self._stale: list[tuple[int, _C]] = []
        """Calls whose number had been used when they came."""
        self._renewed: int | None = None
        """What was expected when the caller last gave references back; None once it has begun anew."""
        self._jump: tuple[int, int] | None = None
        """A range of numbers that were run before the new beginning was noticed."""

    def __len__(self) -> int:
        """Calls kept here."""
        return len(self._waiting) + len(self._stale)

    @property
    def busy(self) -> bool:
        """Whether a call runs, or waits for one that has not come."""
        return self.running or bool(self._waiting)

    def begin(self, number: int) -> bool:
        """Whether the call with this number, which has just come, is to be run now."""
        if self.running or number != self._expected:
            return False
        self.running = True
        return True

    def add(self, number: int, call: _C) -> None:
        """Keeps a call that `begin` refused; `start` says whether one is to be run after all."""
        heapq.heappush(self._waiting, (number, call))

    def renew(self) -> None:
        """The caller gave references back: from now on it may count from 0 again."""
        self._renewed = self._expected
        for number, call in self._stale:
            self.add(number, call)
        self._stale.clear()

    def start(self) -> _C | None:
        """The call to be run now, if there is one and none runs."""
        if self.running:
            return None
        waiting = self._waiting
        while waiting and waiting[0][0] <= self._expected:
            if waiting[0][0] == self._expected:
                self.running = True
                return heapq.heappop(waiting)[1]
            if self._renewed is None:
                self._stale.append(heapq.heappop(waiting))
            else:
                self._begin_anew(self._renewed)
        return None

    def done(self) -> _C | None:
        """The call that was running has run; the next one to be run."""
        self.running = False
        self._expected += 1
        if self._jump is not None and self._expected == self._jump[0]:
            self._expected = self._jump[1]
            self._jump = None
        return self.start()

    def clear(self) -> list[_C]:
        """Forgets the calls that were not run, and returns them."""
        left = [call for _, call in self._waiting + self._stale]
        self._waiting.clear()
        self._stale.clear()
        return left

    def _begin_anew(self, renewed: int) -> None:
        self._jump = (renewed, self._expected) if renewed < self._expected else None
        self._renewed = None
        self._expected = 0
