"""A Lifecycle that threads share: callbacks come in on one side, waiters and listeners hang on the other."""

import sys
import threading
from collections.abc import Callable, Iterator

from avf.client.events import DeathReason, Event, VmDied
from avf.client.lifecycle import Lifecycle

Listener = Callable[[Event], None]


class Watch:
    """Thread-safe. Every listener and every iterator sees the whole history, in order, exactly once."""

    def __init__(self) -> None:
        self._lifecycle = Lifecycle()
        self._changed = threading.Condition()
        self._delivery = threading.RLock()
        self._listeners: list[Listener] = []
        self._called_in: int | None = None

    def deliver(self, event: Event) -> None:
        with self._delivery:
            with self._changed:
                if not self._lifecycle.accept(event):
                    return
                self._changed.notify_all()
            self._tell(tuple(self._listeners), event)

    def add_listener(self, listener: Listener) -> None:
        """Calls `listener` for all that happened, then for all that will, from the thread that brings the news.

        What it raises is reported through `threading.excepthook`. It must not wait for a later event.
        """
        with self._delivery:
            for event in tuple(self._lifecycle.events):
                self._tell((listener,), event)
            self._listeners.append(listener)

    @property
    def in_listener(self) -> bool:
        """Whether the calling thread is in a listener, and so keeps later events from coming."""
        return self._called_in == threading.get_ident()

    def _tell(self, listeners: tuple[Listener, ...], event: Event) -> None:
        before, self._called_in = self._called_in, threading.get_ident()
        try:
            for listener in listeners:
                _call(listener, event)
        finally:
            self._called_in = before

    def events(self) -> Iterator[Event]:
        """From the first event on; blocks for the next one; ends after VmDied."""
        seen = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda seen=seen: len(self._lifecycle.events) > seen)  # type: ignore[misc]
                event = self._lifecycle.events[seen]
            yield event
            if isinstance(event, VmDied):
                return
            seen += 1

    @property
    def death_reason(self) -> DeathReason | None:
        with self._changed:
            return self._lifecycle.death_reason

    def wait_until_ready(self, timeout: float | None) -> None:
        """Raises a WaitError."""
        with self._changed:
            self._changed.wait_for(lambda: self._lifecycle.settled, timeout)
            if (error := self._lifecycle.not_ready()) is not None:
                raise error

    def wait_for_death(self, timeout: float | None) -> DeathReason | None:
        """None after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._lifecycle.death_reason is not None, timeout)
            return self._lifecycle.death_reason


def _call(listener: Listener, event: Event) -> None:
    try:
        listener(event)
    except Exception:  # noqa: BLE001
        threading.excepthook(
            threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
        )
