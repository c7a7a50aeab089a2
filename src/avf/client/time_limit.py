"""How long a VM may run."""

import math
import threading
from collections.abc import Callable
from weakref import WeakMethod

from avf.client.errors import ConfigError
from avf.client.events import DeathReason


class TimeLimit:
    """Calls `kill` once `seconds` have passed since `begin`, unless `cancel` comes first."""

    def __init__(self, seconds: float, kill: Callable[[], None]) -> None:
        """`kill`: a bound method, whose object is not kept alive.

        Raises ConfigError, or RuntimeError if there can be no thread.
        """
        if not (
            isinstance(seconds, int | float)
            and math.isfinite(seconds)
            and 0 < seconds <= threading.TIMEOUT_MAX
        ):
            raise ConfigError(f"timeout must be a positive number of seconds, not {seconds!r}")
        self.seconds = seconds
        self.expired = False
        self._kill = WeakMethod(kill)
        self._begun = threading.Event()
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="time-limit", daemon=True).start()

    def begin(self) -> None:
        """The time runs from now on. Idempotent."""
        self._begun.set()

    def cancel(self) -> None:
        """There is nothing to end any more. Idempotent."""
        self._over.set()
        self._begun.set()

    def _watch(self) -> None:
        self._begun.wait()
        if not self._over.wait(self.seconds):
            self.expired = True
            if (kill := self._kill()) is not None:
                kill()


def reason_of(reason: DeathReason, limit: TimeLimit | None) -> DeathReason:
    """TIMED_OUT for a VM that was killed because its `limit` was over, else `reason`."""
    late = limit is not None and limit.expired and reason == DeathReason.KILLED
    return DeathReason.TIMED_OUT if late else reason
