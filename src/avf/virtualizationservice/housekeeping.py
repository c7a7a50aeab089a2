"""What the service does beside serving: it removes what VMs have left, and tries again what did not work."""

import logging
import threading
import time
from collections.abc import Callable

AGAIN_SECONDS = 30.0
PAUSE_SECONDS = 0.005
"""Between two slices of cleaning: those who call the service come first."""

log = logging.getLogger(__name__)


class Housekeeper:
    """A thread that calls `clean` for as long as it says that there is more, and `again` every AGAIN_SECONDS."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, clean: Callable[[], bool], again: Callable[[], None]) -> None:
        """Raises RuntimeError if there can be no thread."""
        self._thread = threading.Thread(
            target=self._run, args=(clean, again), name="housekeeping", daemon=True
        )
        self._thread.start()

    def wake(self) -> None:
        """There is something to clean."""
        self._wake.set()

    def close(self) -> None:
        """Waits for the slice that is being done."""
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, clean: Callable[[], bool], again: Callable[[], None]) -> None:
        self._wake.set()
        next_time = time.monotonic() + AGAIN_SECONDS
        while not self._ended.is_set():
            self._wake.wait(max(0.0, next_time - time.monotonic()))
            self._wake.clear()
            try:
                more = clean()
                if time.monotonic() >= next_time:
                    next_time = time.monotonic() + AGAIN_SECONDS
                    again()
            except Exception:  # the service goes on without what went wrong
                log.exception("housekeeping")
                more = False
            if more:
                self._wake.set()
                self._ended.wait(PAUSE_SECONDS)
