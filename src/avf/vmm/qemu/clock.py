"""How long a guest has run."""

import threading
import time


class GuestClock:
    """How long the guest has run, by QEMU's events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._former = 0.0
        self._since: float | None = None

    def qmp_event(self, name: str) -> None:
        with self._lock:
            if name == "RESUME" and self._since is None:
                self._since = time.monotonic()
            elif name == "STOP" and self._since is not None:
                self._former += time.monotonic() - self._since
                self._since = None

    def seconds(self) -> float:
        with self._lock:
            now = 0.0 if self._since is None else time.monotonic() - self._since
            return self._former + now
