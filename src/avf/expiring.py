"""Answers that are asked for again and again, and are good for a while."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class ExpiringCache(Generic[T]):
    """Keeps answers for `seconds`; of more than `size`, the least recently used are forgotten.

    Looking up holds up nobody but who asks: the host's directory service may be far away.
    """

    def __init__(
        self, seconds: float, size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._size = size
        self._clock = clock
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, tuple[T, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: Hashable, look_up: Callable[[], T]) -> T:
        """The answer for `key`, from `look_up` if there is none that is fresh. Raises what `look_up` raises."""
        with self._lock:
            if (found := self._found.get(key)) and self._clock() < found[1]:
                self._found.move_to_end(key)
                return found[0]
        value = look_up()
        with self._lock:
            self._found[key] = (value, self._clock() + self._seconds)
            self._found.move_to_end(key)
            while len(self._found) > self._size:
                self._found.popitem(last=False)
        return value
