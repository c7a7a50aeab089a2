"""One running crosvm and its vsock device process, watched by one thread until both are gone."""

import logging
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from avf.confine import Child
from avf.vmm.base import BalloonStats, ExitCause, ExitReport, NotSupported, VmmControlError
from avf.vmm.crosvm.control import ControlSocket
from avf.vmm.crosvm.door import Door
from avf.vmm.tail import Tail
from avf.vmm.vsock_device import VsockDevice

_log = logging.getLogger(__name__)

_REQUEST_TIMEOUT = 10.0
_HANG_UP_GRACE = 2.0
_DEVICE_GRACE = 5.0
"""The device itself takes up to 2 s to deliver what the guest sent last."""
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


@dataclass(frozen=True, slots=True)
class UserVsock:
    """The vsock device that is a process of its own, and where crosvm calls it."""

    device: VsockDevice
    door: Door


class CrosvmProcess:
    """A VmProcess. It owns its children, the read end of its standard error and the control socket's file."""

    def __init__(
        self,
        child: Child,
        vsock: UserVsock | None,
        control: ControlSocket,
        stderr: int,
        on_event: Callable[[str], None] | None = None,
        *,
        confinement: str = "none",
        debugger: Child | None = None,
    ) -> None:
        """`confinement`: how tight it is, for the report. `debugger`: what leads to the gdb server, if there is one."""
        self._child = child
        self._device = None if vsock is None else vsock.device
        self._door = None if vsock is None else vsock.door
        self._debugger = debugger
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
        if self._device is not None:
            self._device.process.settle()
        lost = self._follow()
        if self._debugger is not None:
            self._debugger.abort()
        returncode = self._child.reap()
        if self._door is not None:
            self._door.close()
        if self._device is not None:
            self._bury(self._device)
        self._tail.pump()
        self._control.remove()
        events = [f"crosvm exited with status {returncode}"]
        if lost:
            events.insert(0, "the vsock device has ended: killing the VM")
        for event in events:
            self._tell(event)
        cause = ExitCause.INFRASTRUCTURE if lost else exit_cause(returncode)
        self._report = ExitReport(
            cause, returncode, self._tail.close(), (self._confinement, *events)
        )
        self._done.set()

    def _follow(self) -> bool:
        """Reads what crosvm says until it has ended; True if it had to be killed, for want of its vsock device."""
        poll = select.poll()
        watched = [self._child.fileno(), self._tail.fd]
        device = None if self._device is None else self._device.process.fileno()
        if device is not None:
            watched.append(device)
        for fd in watched:
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._tail.fd in ready and not self._tail.pump():
                poll.unregister(self._tail.fd)
            if self._child.fileno() in ready:
                return False
            if device in ready:
                return self._outlives_device()
            time.sleep(self._tail.pause())

    def _outlives_device(self) -> bool:
        """Whether crosvm, which hangs up on its device before it ends, has not ended; it is killed then."""
        poll = select.poll()
        poll.register(self._child, select.POLLIN)
        if poll.poll(_HANG_UP_GRACE * 1000):
            return False
        self._child.kill()
        return True

    def _bury(self, device: VsockDevice) -> None:
        """Gives the device time to deliver what the guest sent last."""
        poll = select.poll()
        poll.register(device.process, select.POLLIN)
        poll.poll(_DEVICE_GRACE * 1000)
        device.process.abort()
        device.host.close()

    def _tell(self, event: str) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # noqa: BLE001  another's fault must not end the watching
            _log.exception("an event handler of VM process %d failed", self.pid)
