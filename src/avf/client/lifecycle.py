"""What a client knows of one VM from its callbacks alone; no locks, no sockets."""

from avf.aidl.virtualizationservice import VirtualMachineState
from avf.client.errors import Died, Finished, TimedOut, WaitError
from avf.client.events import (
    DeathReason,
    Event,
    PayloadError,
    PayloadFinished,
    PayloadReady,
    PayloadStarted,
    VmDied,
)

_STATE_AFTER = {
    PayloadStarted: VirtualMachineState.STARTED,
    PayloadReady: VirtualMachineState.READY,
    PayloadFinished: VirtualMachineState.FINISHED,
    PayloadError: VirtualMachineState.FINISHED,
    VmDied: VirtualMachineState.DEAD,
}


class Lifecycle:
    """States only go forward, so the history is short: at most one event for each state, death last."""

    __slots__ = ("events", "reported")

    def __init__(self) -> None:
        self.reported = VirtualMachineState.NOT_STARTED
        self.events: list[Event] = []

    def accept(self, event: Event) -> bool:
        """Whether `event` is news; what would go back, repeat, or follow death changes nothing."""
        after = _STATE_AFTER[type(event)]
        if after <= self.reported:
            return False
        self.reported = after
        self.events.append(event)
        return True

    @property
    def death_reason(self) -> DeathReason | None:
        last = self.events[-1] if self.events else None
        return last.reason if isinstance(last, VmDied) else None

    @property
    def error(self) -> PayloadError | None:
        """What the guest reported instead of the payload's end."""
        return next((event for event in self.events if isinstance(event, PayloadError)), None)

    @property
    def settled(self) -> bool:
        """Nothing is left to wait for in `wait_until_ready`."""
        return self.reported >= VirtualMachineState.READY

    def not_ready(self) -> WaitError | None:
        """Why the VM is not ready right now, None if it is; asked at the end of a wait."""
        if not self.settled:
            return TimedOut()
        if (reason := self.death_reason) is not None:
            return Died(reason, self.error)
        if self.reported == VirtualMachineState.READY:
            return None
        exits = (event.exit_code for event in self.events if isinstance(event, PayloadFinished))
        return Finished(next(exits, None), self.error)
