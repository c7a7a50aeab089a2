"""Who is told of what happens to a VM."""

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from avf.aidl.virtualizationcommon import DeathReason, ErrorCode
from avf.aidl.virtualizationservice import IVirtualMachineCallback
from avf.binder import BinderError

log = logging.getLogger(__name__)

Event = Callable[[IVirtualMachineCallback], None]


class VirtualMachineCallbacks:
    """The callbacks of one VM. Each is told in order, and a slow or broken one delays no other."""

    def __init__(self, cid: int) -> None:
        self._cid = cid
        self._lock = threading.Lock()
        self._listeners: list[_Listener] = []

    def add(self, callback: IVirtualMachineCallback) -> None:
        with self._lock:
            self._listeners.append(_Listener(callback, self._cid))

    def notify_payload_started(self) -> None:
        self._tell("payload start event", lambda cb: cb.on_payload_started(self._cid))

    def notify_payload_ready(self) -> None:
        self._tell("payload ready event", lambda cb: cb.on_payload_ready(self._cid))

    def notify_payload_finished(self, exit_code: int) -> None:
        self._tell("payload finish event", lambda cb: cb.on_payload_finished(self._cid, exit_code))

    def notify_error(self, code: ErrorCode, message: str) -> None:
        self._tell("error event", lambda cb: cb.on_error(self._cid, code, message))

    def notify_died(self, reason: DeathReason, timeout: float) -> None:
        """The last event; returns when all have been told, or after `timeout` seconds if some are stuck."""
        self._tell("exit", lambda cb: cb.on_died(self._cid, reason))
        self.close(timeout)

    def close(self, timeout: float = 0) -> None:
        """Lets go of all callbacks."""
        with self._lock:
            listeners, self._listeners = self._listeners, []
        deadline = time.monotonic() + timeout
        for listener in listeners:
            listener.end()
        for listener in listeners:
            listener.join(max(0.0, deadline - time.monotonic()))

    def _tell(self, what: str, event: Event) -> None:
        with self._lock:
            for listener in self._listeners:
                listener.tell(what, event)


class _Listener:
    """One callback, told by a thread of its own that starts with the first event."""

    def __init__(self, callback: IVirtualMachineCallback, cid: int) -> None:
        self._callback = callback
        self._cid = cid
        self._events: SimpleQueue[tuple[str, Event] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def tell(self, what: str, event: Event) -> None:
        self._events.put((what, event))
        if self._thread is None:
            self._start()

    def end(self) -> None:
        """No event comes after those it was told."""
        self._events.put(None)

    def join(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"callback-{self._cid}", daemon=True)
        try:
            thread.start()
        except RuntimeError as e:  # the next event may have better luck
            log.error("Error notifying of events of VM CID %d: %s", self._cid, e)
            return
        self._thread = thread

    def _run(self) -> None:
        while (item := self._events.get()) is not None:
            what, event = item
            try:
                event(self._callback)
            except BinderError as e:
                log.error("Error notifying %s of VM CID %d: %s", what, self._cid, e)
