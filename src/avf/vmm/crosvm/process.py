"""One running crosvm, watched by one thread."""

import logging
import select
import threading
import time
from collections.abc import Callable

from avf.confine import Child
from avf.vmm.base import BalloonStats, ExitCause, ExitReport, NotSupported, VmmControlError
from avf.vmm.crosvm.control import ControlSocket
from avf.vmm.tail import Tail

_log = logging.getLogger(__name__)

_REQUEST_TIMEOUT = 10.0
_CAUSES = {
    0: ExitCause.SHUTDOWN,
    1: ExitCause.START_FAILED,
    32: ExitCause.REBOOT,
    33: ExitCause.CRASH,
    34: ExitCause.CRASH,
    35: ExitCause.START_FAILED,
    36: ExitCause.WATCHDOG,
}


def exit_cause(returncode: int) -> ExitCause:
    """What crosvm's extended exit status means; negative is the signal that ended it."""
    if returncode < 0:
        return ExitCause.KILLED
    return _CAUSES.get(returncode, ExitCause.UNKNOWN)


class CrosvmProcess:
    """A VmProcess. It owns its child, the read end of its standard error and the control socket's file."""

    def __init__(
        self,
        child: Child,
        control: ControlSocket,
        stderr: int,
        on_event: Callable[[str], None] | None = None,
        *,
        confinement: str = "none",
    ) -> None:
        """`confinement`: how tight it is, for the report."""
        self._child = child
        self._control = control
        self._tail = Tail(stderr)
        self._on_event = on_event
        self._confinement = f"confinement: {confinement}"
        self._done = threading.Event()
        self._report = ExitReport(ExitCause.UNKNOWN, 0)
        self._thread = threading.Thread(target=self._watch, name="crosvm-watch", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait(self, timeout: float | None = None) -> ExitReport:
        if not self._done.wait(timeout):
            raise TimeoutError(f"crosvm {self.pid} is still running")
        if threading.current_thread() is not self._thread:
            self._thread.join()
        return self._report

    def kill(self) -> None:
        self._child.kill()

    def guest_seconds(self) -> None:
        return None

    def set_balloon(self, size: int) -> None:
        self._check_running()
        self._control.set_balloon(size, _REQUEST_TIMEOUT)

    def balloon_stats(self) -> BalloonStats:
        self._check_running()
        return self._control.balloon_stats(_REQUEST_TIMEOUT)

    def dump_memory(self, fd: int) -> None:
        raise NotSupported("crosvm writes no memory dumps")

    def set_console_input(self, fd: int) -> None:
        raise NotSupported("crosvm's console is given its input at the start or never")

    def _check_running(self) -> None:
        if self._done.is_set():
            raise VmmControlError("crosvm has ended")

    def _watch(self) -> None:
        self._child.settle()
        poll = select.poll()
        poll.register(self._child, select.POLLIN)
        poll.register(self._tail.fd, select.POLLIN)
        ended = False
        while not ended:
            ready = {fd for fd, _ in poll.poll()}
            if self._tail.fd in ready and not self._tail.pump():
                poll.unregister(self._tail.fd)
            ended = self._child.fileno() in ready
            time.sleep(0 if ended else self._tail.pause())
        returncode = self._child.reap()
        self._tail.pump()
        self._control.remove()
        event = f"crosvm exited with status {returncode}"
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:  # noqa: BLE001  another's fault must not end the watching
                _log.exception("an event handler of VM process %d failed", self.pid)
        self._report = ExitReport(
            exit_cause(returncode), returncode, self._tail.close(), (self._confinement, event)
        )
        self._done.set()
