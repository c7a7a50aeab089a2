"""From QEMU's events and exit status to the cause of a VM's end."""

import signal
from collections import Counter, deque
from collections.abc import Mapping

from avf.pace import Pace
from avf.vmm.base import ExitCause

EVENTS_AT_ONCE, EVENTS_PER_SECOND = 10_000, 100
"""How many events of a guest's making are followed; each costs time that its client's other VMs lack."""

_KEPT = 32
_TIMES_TOLD = 10
_TOLD = frozenset(
    {
        "BLOCK_IO_ERROR",
        "GUEST_PANICKED",
        "GUEST_CRASHLOADED",
        "MEMORY_FAILURE",
        "SHUTDOWN",
        "STOP",
        "WATCHDOG",
    }
)
_OF_A_DEBUGGER = frozenset({"STOP", "RESUME"})
_REASONS = {
    "guest-shutdown": ExitCause.SHUTDOWN,
    "guest-reset": ExitCause.REBOOT,
    "guest-panic": ExitCause.CRASH,
}


class Outcome:
    """What has happened to one VM. The guest can cause events at will: only a few of each kind are told and kept."""

    def __init__(self, *, debugged: bool = False) -> None:
        """`debugged`: a debugger may stop the guest and let it go on as often as it likes."""
        self._not_counted = _OF_A_DEBUGGER if debugged else frozenset()
        self.started = False
        """QEMU has answered a request: its command line was good."""
        self.lost = False
        """QEMU had to be killed because it could no longer do its work: no vsock device, no monitor."""
        self.broken = False
        """The hypervisor could not go on with the guest."""
        self.given_up = False
        """QEMU had to be killed because its guest could not be let run."""
        self.flooded = False
        """There were more events than are followed."""
        self._pace = Pace(EVENTS_PER_SECOND, EVENTS_AT_ONCE)
        self._shutdown_reason: str | None = None
        self._panicked = False
        self._watchdog = False
        self._events: deque[str] = deque(maxlen=_KEPT)
        self._told: Counter[str] = Counter()

    @property
    def events(self) -> tuple[str, ...]:
        return tuple(self._events)

    def note(self, text: str) -> None:
        """Keeps a line for people."""
        self._events.append(text)

    def qmp_event(self, name: str, data: Mapping[str, object]) -> str | None:
        """Takes one QMP event in and returns it as a line for people; None if it tells them nothing (any more)."""
        if name not in self._not_counted and not self._pace.take(1):
            self.flooded = True
        reason = data.get("reason")
        if name == "SHUTDOWN" and isinstance(reason, str):
            self._shutdown_reason = self._shutdown_reason or reason
        elif name == "GUEST_PANICKED":
            self._panicked = True
        elif name == "WATCHDOG":
            self._watchdog = True
        if name not in _TOLD or self._told[name] == _TIMES_TOLD:
            return None
        self._told[name] += 1
        details = [str(data[key]) for key in ("reason", "action") if key in data]
        return " ".join([name, *details])

    def interrupted(self, returncode: int) -> bool:
        """Whether somebody else killed QEMU, or what it cannot work without."""
        return self.lost or (returncode == -signal.SIGKILL and not self.given_up)

    def cause(self, returncode: int) -> ExitCause:
        """The cause, given QEMU's exit status (negative: the signal that ended it)."""
        if self.lost:
            return ExitCause.INFRASTRUCTURE if self.started else ExitCause.START_FAILED
        if self.broken:
            return ExitCause.CRASH
        if returncode < 0:
            return ExitCause.KILLED
        if self._watchdog:
            return ExitCause.WATCHDOG
        if self._panicked:
            return ExitCause.CRASH
        if self._shutdown_reason is not None:
            if self._shutdown_reason.startswith("host-"):
                return ExitCause.KILLED
            return _REASONS.get(self._shutdown_reason, ExitCause.UNKNOWN)
        if returncode != 0 and not self.started:
            return ExitCause.START_FAILED
        return ExitCause.UNKNOWN
