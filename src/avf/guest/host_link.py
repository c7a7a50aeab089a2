"""The agent's connection to its host, over which calls can be held back while it is made anew."""

import threading
from collections.abc import Callable
from typing import Self, TypeVar

from avf.aidl.virtualizationcommon import ErrorCode
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.guest.host import connect_to_host

T = TypeVar("T")


class HostLink(IVirtualMachineService):
    """The host's service, one call at a time. As a context manager it closes the connection in the end."""

    def __init__(self) -> None:
        """Connects. Raises FailedToConnect."""
        self._lock = threading.Lock()
        self._session, self._host = connect_to_host()
        self.was_told_ready = False
        """Whether a host has heard that the payload is ready."""

    def hang_up(self, timeout: float) -> None:
        """Waits for the call that is being made, and holds back others until `call_again`. Raises TimeoutError."""
        if not self._lock.acquire(timeout=timeout):
            raise TimeoutError(f"a call of the host takes longer than {timeout:g} s")
        self._session.close()

    def call_again(self) -> None:
        """Connects to the host that there is now. Raises FailedToConnect."""
        self._session, self._host = connect_to_host()
        self._lock.release()

    def _call(self, call: Callable[[IVirtualMachineService], T]) -> T:
        with self._lock:
            return call(self._host)

    def notify_payload_started(self) -> None:
        self._call(lambda host: host.notify_payload_started())

    def notify_payload_ready(self) -> None:
        with self._lock:
            self._host.notify_payload_ready()
            self.was_told_ready = True

    def notify_payload_finished(self, exit_code: int) -> None:
        self._call(lambda host: host.notify_payload_finished(exit_code))

    def notify_error(self, error_code: ErrorCode, message: str) -> None:
        self._call(lambda host: host.notify_error(error_code, message))

    def get_time(self) -> int:
        return self._call(lambda host: host.get_time())

    def get_instance_generation(self, instance_id: bytes) -> int:
        return self._call(lambda host: host.get_instance_generation(instance_id))

    def raise_instance_generation(self, instance_id: bytes, generation: int) -> None:
        self._call(lambda host: host.raise_instance_generation(instance_id, generation))

    def report_start_phases(
        self,
        names: list[str],
        end_nanos: list[int],
        began_nanos: int,
        answered_nanos: int,
        sent_nanos: int,
    ) -> None:
        self._call(
            lambda host: host.report_start_phases(
                names, end_nanos, began_nanos, answered_nanos, sent_nanos
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._session.close()
