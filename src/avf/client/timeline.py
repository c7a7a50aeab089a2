"""Where the time of a VM's start went, and when its life took which step."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from avf.aidl import vm_control as aidl
from avf.aidl.vm_control import LifecycleStep, StartKind

__all__ = ["LifecycleStep", "Moment", "Phase", "StartKind", "Timeline"]

_TITLES = {
    StartKind.UNKNOWN: "start",
    StartKind.COLD: "cold start",
    StartKind.CLONE: "start as a clone",
    StartKind.WAITED: "start of a clone that had waited",
}
_SECOND = 1_000_000_000
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a start. Times are seconds since the VM's creation was asked for."""

    name: str
    """Such as `spawn` or `verify`; at most 24 letters, digits, spaces and hyphens."""
    in_guest: bool
    """Told by the guest's agent; else seen by the host."""
    begin: float
    end: float

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Moment:
    """When a step was taken, in seconds since the VM's creation was asked for."""

    step: LifecycleStep
    time: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """A start on one clock. Times are seconds since the VM's creation was asked for."""

    kind: StartKind
    """Whether the guest booted by itself, began as a clone, or is one that had waited; UNKNOWN until it is done."""
    created_ns: int
    """When the creation was asked for, in nanoseconds since 1970."""
    phases: tuple[Phase, ...]
    """The host's, then the guest's, each in the order of time."""
    moments: tuple[Moment, ...]
    """The steps that were taken, in the order of time; each at most once."""
    guest_error: float | None
    """By how many seconds the guest's phases may be too early or too late, all of them alike; None: there are none."""

    @classmethod
    def from_aidl(cls, timeline: aidl.Timeline) -> Self:
        """Of what virtmgr tells over RPC."""
        error = timeline.guest_error_nanos
        return cls(
            timeline.kind,
            timeline.created_unix_nanos,
            tuple(
                Phase(
                    phase.name,
                    phase.in_guest,
                    phase.begin_nanos / _SECOND,
                    phase.end_nanos / _SECOND,
                )
                for phase in timeline.phases
            ),
            tuple(Moment(moment.step, moment.nanos / _SECOND) for moment in timeline.moments),
            None if error < 0 else error / _SECOND,
        )

    @property
    def title(self) -> str:
        """The kind in words."""
        return _TITLES[self.kind]

    def at(self, step: LifecycleStep) -> float | None:
        """When a step was taken; None: it was not."""
        return next((moment.time for moment in self.moments if moment.step == step), None)

    @property
    def duration(self) -> float | None:
        """Seconds from asking for the VM to the start of its payload; None if that has not been."""
        return self.at(LifecycleStep.PAYLOAD_STARTED)

    @property
    def end(self) -> float:
        """When the start was over: the payload was started, or the VM died; else the last that is known."""
        for step in (LifecycleStep.PAYLOAD_STARTED, LifecycleStep.DIED):
            if (time := self.at(step)) is not None:
                return time
        moments = (moment.time for moment in self.moments)
        return max((0.0, *(phase.end for phase in self.phases), *moments))

    @property
    def created(self) -> datetime:
        """When the creation was asked for, in UTC."""
        return datetime.fromtimestamp(self.created_ns / _SECOND, UTC)

    def as_dict(self) -> dict[str, object]:
        """For JSON: times in milliseconds."""
        return {
            "kind": self.kind.name.lower(),
            "created": self.created.isoformat(),
            "phases": [
                {
                    "name": phase.name,
                    "party": "guest" if phase.in_guest else "host",
                    "begin_ms": _millis(phase.begin),
                    "end_ms": _millis(phase.end),
                }
                for phase in self.phases
            ],
            "moments_ms": {m.step.name.lower(): _millis(m.time) for m in self.moments},
            "guest_error_ms": None if self.guest_error is None else _millis(self.guest_error),
        }


def _millis(seconds: float) -> float:
    return round(seconds * 1000, 3)
