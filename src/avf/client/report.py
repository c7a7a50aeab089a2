"""A death told to people."""

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from avf.aidl import vm_control as aidl
from avf.client.events import DeathReason
from avf.client.remedies import guest_remedy_for, remedy_for
from avf.client.timeline import Timeline

_GUEST_ERROR = re.compile(r"the guest told of an error, \w+: (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DeathReport:
    """All that is known of how a VM died. Its texts are partly the guest's own: not to be believed, nor printed raw."""

    reason: DeathReason
    last_step: str
    """The last thing known to have happened in its life."""
    vmm_status: int
    """The VMM's exit status; negative: the signal that ended it."""
    vmm_events: tuple[str, ...]
    vmm_stderr: str
    failure: str
    """What the guest wrote to its failure port: a reason's name, or that, a `|`, and more."""
    console_tail: tuple[str, ...]
    lost_output: tuple[str, ...] = ()
    """What of its output its owner did not get, and why: `console: No space left on device`."""
    timeline: Timeline | None = None
    """Where the time of its start went."""

    @classmethod
    def from_aidl(cls, report: aidl.DeathReport) -> Self:
        """Of what the service tells."""
        return cls(
            DeathReason(int(report.reason)),
            report.last_step,
            report.vmm_status,
            tuple(report.vmm_events),
            report.vmm_stderr,
            report.failure,
            tuple(report.console_tail),
            tuple(report.lost_output),
            None if report.timeline is None else Timeline.from_aidl(report.timeline),
        )

    @property
    def remedy(self) -> str:
        """What to try, in words; empty if that depends."""
        if told := _GUEST_ERROR.match(self.last_step):
            return guest_remedy_for(told[1])
        return remedy_for(f"{self.last_step}\n{self.vmm_stderr}")

    def lines(self, *, console: bool = True) -> Iterator[str]:
        """The report as lines of text, with or without what the console said."""
        yield f"last step: {self.last_step}"
        yield f"the VMM {self._vmm_end()}"
        if self.vmm_events:
            yield f"it told: {', '.join(self.vmm_events)}"
        detail = self.failure.partition("|")[2]
        if self.failure and not (detail and detail in self.last_step):
            yield f"the guest said: {self.failure}"
        if self.vmm_stderr:
            yield "the VMM said:"
            yield from (f"    {line}" for line in self.vmm_stderr.splitlines())
        if self.console_tail and console:
            yield "the console said last:"
            yield from (f"    {line}" for line in self.console_tail)

    def _vmm_end(self) -> str:
        if self.vmm_status >= 0:
            return f"exited with status {self.vmm_status}"
        try:
            return f"was killed by {signal.Signals(-self.vmm_status).name}"
        except ValueError:
            return f"was killed by signal {-self.vmm_status}"
