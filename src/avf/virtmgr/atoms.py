"""Metrics on their way to virtualizationservice; nobody waits for them but the end of virtmgr."""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from avf.aidl.virtualizationservice_internal import IVirtualizationServiceInternal
from avf.binder import BinderError
from avf.virtmgr.global_service import GlobalService, GlobalServiceError

log = logging.getLogger(__name__)

Send = Callable[[IVirtualizationServiceInternal], None]


class AtomSender:
    """Sends in order from a thread of its own; what cannot be sent is a warning."""

    def __init__(self, service: GlobalService) -> None:
        self._service = service
        self._queue: SimpleQueue[Send | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="atoms", daemon=True)
        self._thread.start()

    def send(self, atom: Send) -> None:
        self._queue.put(atom)

    def close(self, timeout: float) -> None:
        """Sends what is left, for at most `timeout` seconds."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (atom := self._queue.get()) is not None:
            try:
                self._service.call(atom)
            except (BinderError, GlobalServiceError, OSError) as e:
                log.warning("an atom is lost: %s", e)
