"""Work that parties have left, done in turn: who has left much waits, not who has left little."""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

from avf.virtualizationservice.parties import Party

T = TypeVar("T")


class Rounds(Generic[T]):
    """Queues of items, one for each party, taken from in turn. Not for concurrent use."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Party, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def add(self, party: Party, item: T) -> None:
        self._queues.setdefault(party, deque()).append(item)

    def take(self) -> T | None:
        """The first item of the party whose turn it is; None if nothing is left."""
        if not self._queues:
            return None
        party, queue = self._queues.popitem(last=False)
        item = queue.popleft()
        if queue:
            self._queues[party] = queue
        return item
