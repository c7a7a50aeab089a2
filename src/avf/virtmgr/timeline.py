"""Where the time of one VM's start went: the phases of host and guest on one clock, and the steps of the VM's life.

The host's phases are seen as they end. The guest tells its own at once, by its CLOCK_MONOTONIC, whose zero is unknown
here; what ties it to ours are two messages, as in Cristian's algorithm:

    host    answers getTime ----->  guest   at `answered`: no later by our clock than it is by the guest's
    host    gets the report <-----  guest   at `sent`: no earlier

So our clock was ahead of the guest's by something between (answer sent - answered) and (report received - sent). The
middle is taken, and wrong by half of the difference at most, plus what the two clocks drift apart during the start.

A guest may lie, but only about itself: what it tells is bounded, and cut to the time in which it ran.
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from avf.aidl.vm_control import LifecycleStep, StartKind

MAX_HOST_PHASES = 64
MAX_GUEST_PHASES = 32
_NAME = re.compile(r"[a-z][a-z0-9 -]{0,23}")
_LATEST = 1 << 62

RESUME, IDENTITY = "resume", "identity"
"""The phases of the VMM at whose beginning it lets the guest run: one that boots, one that is a clone."""

STATE = "state"
"""The phase in which the state of a clone is loaded; one that has waited had it before."""

FIRMWARE = "firmware"
"""What a guest that boots does before its clock begins, at 0; it has no way to tell of that itself."""


class ReportError(ValueError):
    """What a guest told of its phases cannot be."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a start; nanoseconds since the timeline began."""

    name: str
    in_guest: bool
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class GuestReport:
    """What a guest tells: see IVirtualMachineService.reportStartPhases."""

    names: Sequence[str]
    ends: Sequence[int]
    began: int
    answered: int
    sent: int

    def check(self) -> None:
        """Raises ReportError unless it is the report of some guest."""
        if not 0 < len(self.names) == len(self.ends) <= MAX_GUEST_PHASES:
            raise ReportError(f"{len(self.names)} names and {len(self.ends)} ends of phases")
        if not all(map(_NAME.fullmatch, self.names)):
            raise ReportError("the name of a phase is malformed")
        times = (0, self.began, *self.ends, self.sent, _LATEST)
        if any(earlier > later for earlier, later in pairwise(times)):
            raise ReportError("the ends of phases are not in order")
        if not 0 <= self.answered <= self.sent:
            raise ReportError("the answer came after the report")


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is known of a start at one moment; nanoseconds since the timeline began."""

    kind: StartKind
    created: int
    """When it began: CLOCK_REALTIME, in nanoseconds since 1970."""
    phases: tuple[Phase, ...]
    """The host's, then the guest's."""
    moments: tuple[tuple[LifecycleStep, int], ...]
    guest_error: int | None
    """By how much the times of the guest's phases may be wrong; None: it has told none."""


class Timeline:
    """Begins when createVm is called. Any thread may tell it something."""

    def __init__(self, now: Callable[[], int] = time.monotonic_ns) -> None:
        self._now = now
        self._created = time.time_ns()
        self._zero = now()
        self._lock = threading.Lock()
        self._last = 0
        """When the host's last phase ended, or the next one was said to begin."""
        self._host: list[Phase] = []
        self._moments: dict[LifecycleStep, int] = {LifecycleStep.CREATION_ASKED: 0}
        self._answered: int | None = None
        self._guest: tuple[Phase, ...] = ()
        self._guest_error: int | None = None

    def ended(self, name: str) -> None:
        """The host's phase `name` has ended, which began at the end of the one before it."""
        with self._lock:
            began, self._last = self._last, self._since()
            if len(self._host) < MAX_HOST_PHASES:
                self._host.append(Phase(name, False, began, self._last))

    def begin(self) -> None:
        """The host's next phase begins only now."""
        with self._lock:
            self._last = self._since()

    def reached(self, step: LifecycleStep) -> None:
        """Only the first time counts."""
        with self._lock:
            self._moments.setdefault(step, self._since())

    def answered(self) -> None:
        """The guest is about to get the answer to getTime."""
        with self._lock:
            self._answered = self._since()

    def reported(self, report: GuestReport) -> None:
        """Takes the guest's first report, which has just come. Raises ReportError."""
        report.check()
        with self._lock:
            if self._guest_error is not None:
                raise ReportError("it has told its phases before")
            now = self._since()
            began = self._guest_ran_from()
            ahead, error = _clock_difference(report, began, self._answered, now)
            times = [min(max(t + ahead, began), now) for t in (report.began, *report.ends)]
            self._guest = tuple(
                Phase(name, True, begin, end)
                for name, (begin, end) in zip(report.names, pairwise(times), strict=True)
            )
            if report.began == 0:
                self._guest = (Phase(FIRMWARE, True, began, times[0]), *self._guest)
            self._guest_error = error

    def picture(self) -> Picture:
        with self._lock:
            return Picture(
                self._kind(),
                self._created,
                (*self._host, *self._guest),
                tuple(sorted(self._moments.items(), key=lambda moment: moment[1])),
                self._guest_error,
            )

    def _since(self) -> int:
        return self._now() - self._zero

    def _guest_ran_from(self) -> int:
        """The earliest time at which the guest that runs now can have run."""
        for phase in reversed(self._host):
            if phase.name in (RESUME, IDENTITY):
                return phase.begin
        return self._host[-1].end if self._host else 0

    def _kind(self) -> StartKind:
        names = [phase.name for phase in self._host]
        if IDENTITY in names:
            return StartKind.CLONE if STATE in names else StartKind.WAITED
        return StartKind.COLD if RESUME in names else StartKind.UNKNOWN


def _clock_difference(
    report: GuestReport, began: int, answered: int | None, received: int
) -> tuple[int, int]:
    """How far our clock is ahead of the guest's, and by how much that may be wrong. Raises ReportError."""
    most = received - report.sent
    tied = answered is not None and report.answered > 0
    least = answered - report.answered if answered is not None and tied else began - report.began
    if least > most:
        raise ReportError("more time has passed for the guest than for its host")
    return (least + most) // 2, (most - least + 1) // 2
