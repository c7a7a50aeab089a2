"""The phases of a start on one clock: the host's own, and those that a guest tells, truly or not."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.aidl.vm_control import LifecycleStep, StartKind
from avf.virtmgr.timeline import (
    FIRMWARE,
    MAX_GUEST_PHASES,
    MAX_HOST_PHASES,
    GuestReport,
    Phase,
    ReportError,
    Timeline,
)

MS = 1_000_000


class Clock:
    """In nanoseconds; starts anywhere."""

    def __init__(self) -> None:
        self.time = 77_000 * MS

    def __call__(self) -> int:
        return self.time

    def after(self, millis: float) -> None:
        self.time += int(millis * MS)


def started(*, clone: bool = False) -> tuple[Timeline, Clock]:
    """A VM whose guest has run for 100 ms: from 30 ms on, let run by a phase that took 5 ms."""
    clock = Clock()
    timeline = Timeline(clock)
    loaded = [("state", 10)] if clone else []
    way = [("context", 10), *loaded, ("spawn", 10 if clone else 20)]
    for name, millis in (*way, ("identity" if clone else "resume", 5)):
        clock.after(millis)
        timeline.ended(name)
    clock.after(95)
    return timeline, clock


def guest_report(
    ends: Sequence[float], *, began: float = 0, answered: float = 0, sent: float = 90
) -> GuestReport:
    """Times in ms, by the guest's clock."""
    names = [f"phase {number}" for number in range(len(ends))]
    times = [int(end * MS) for end in ends]
    return GuestReport(names, times, int(began * MS), int(answered * MS), int(sent * MS))


def guest_times(timeline: Timeline) -> list[tuple[float, float]]:
    """Of what the guest told itself, in ms since the timeline began."""
    told = [phase for phase in timeline.picture().phases if phase.in_guest]
    phases = [phase for phase in told if phase.name != FIRMWARE]
    return [(phase.begin / MS, phase.end / MS) for phase in phases]


def test_phases_of_the_host() -> None:
    clock = Clock()
    timeline = Timeline(clock)
    clock.after(3)
    timeline.ended("context")
    clock.after(100)  # nobody's time
    timeline.begin()
    clock.after(4)
    timeline.ended("spawn")
    picture = timeline.picture()
    assert picture.phases == (
        Phase("context", False, 0, 3 * MS),
        Phase("spawn", False, 103 * MS, 107 * MS),
    )
    assert (picture.kind, picture.guest_error) == (StartKind.UNKNOWN, None)


def test_moments_are_in_order_and_the_first_counts() -> None:
    timeline, clock = started()
    timeline.reached(LifecycleStep.DIED)
    clock.after(1)
    timeline.reached(LifecycleStep.DIED)
    assert timeline.picture().moments == (
        (LifecycleStep.CREATION_ASKED, 0),
        (LifecycleStep.DIED, 130 * MS),
    )


@pytest.mark.parametrize("clone", [False, True])
def test_cold_starts_and_clones_are_told_apart(clone: bool) -> None:
    timeline, _ = started(clone=clone)
    assert timeline.picture().kind is (StartKind.CLONE if clone else StartKind.COLD)


def test_a_clone_that_had_waited_was_loaded_before() -> None:
    timeline = Timeline()
    for name in ("devices", "identity"):
        timeline.ended(name)
    assert timeline.picture().kind is StartKind.WAITED


def test_a_clone_that_was_given_up_is_a_cold_start() -> None:
    timeline, clock = started(clone=False)
    for name in ("spawn", "monitor", "state", "clone given up", "spawn", "monitor", "resume"):
        clock.after(1)
        timeline.ended(name)
    assert timeline.picture().kind is StartKind.COLD


def test_two_messages_tie_the_guests_clock_to_the_hosts() -> None:
    """The guest's clock begins 2 ms after it was let run; each message takes 1 ms."""
    timeline, clock = started()  # host: 130
    timeline.answered()
    clock.after(1)  # host: 131, guest: 99
    clock.after(2)  # host: 133, guest: 101: sends
    clock.after(1)
    timeline.reported(guest_report([10, 101], answered=99, sent=101))
    assert guest_times(timeline) == [(32, 42), (42, 133)]
    (firmware,) = (phase for phase in timeline.picture().phases if phase.name == FIRMWARE)
    assert firmware == Phase(FIRMWARE, True, 30 * MS, 32 * MS)
    assert timeline.picture().guest_error == 1 * MS


def test_a_clone_has_no_firmware() -> None:
    timeline, _ = started(clone=True)
    timeline.reported(guest_report([510, 580], began=500, sent=590))
    told = [phase.name for phase in timeline.picture().phases if phase.in_guest]
    assert told == ["phase 0", "phase 1"]


def test_a_slow_message_makes_the_times_less_exact() -> None:
    timeline, clock = started()
    timeline.answered()
    clock.after(1 + 2 + 9)
    timeline.reported(guest_report([10], answered=99, sent=101))
    (((begin, _),), error) = guest_times(timeline), timeline.picture().guest_error
    assert error == 5 * MS
    assert abs(begin - 32) * MS <= error


def test_without_an_answer_the_time_that_the_guest_ran_is_all_that_is_known() -> None:
    timeline, _ = started()
    timeline.reported(guest_report([10, 80], sent=90))
    assert guest_times(timeline) == [(35, 45), (45, 115)]
    assert timeline.picture().guest_error == 5 * MS


times = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 200 * MS)
name = st.text(max_size=30) | st.sampled_from(["kernel", "verify", "a b-c9"])


@given(
    names=st.lists(name, max_size=2 * MAX_GUEST_PHASES),
    ends=st.lists(times, max_size=2 * MAX_GUEST_PHASES),
    numbers=st.tuples(times, times, times),
    asked=st.booleans(),
    ordered=st.booleans(),
)
def test_whatever_a_guest_tells_lies_in_the_time_it_ran(
    names: list[str], ends: list[int], numbers: tuple[int, int, int], asked: bool, ordered: bool
) -> None:
    timeline, _ = started()
    if asked:
        timeline.answered()
    if ordered:
        names = names[: len(ends)]
        ends = sorted(ends)[: len(names)]
    host = timeline.picture().phases
    try:
        timeline.reported(GuestReport(names, ends, *numbers))
    except ReportError:
        assert timeline.picture().phases == host
        return
    picture = timeline.picture()
    assert picture.phases[: len(host)] == host
    told = picture.phases[len(host) :]
    assert 0 < len(told) <= MAX_GUEST_PHASES + 1
    assert all(30 * MS <= phase.begin <= phase.end <= 130 * MS for phase in told)
    assert all(phase.name.isascii() and len(phase.name) <= 24 for phase in told)
    assert picture.guest_error is not None and 0 <= picture.guest_error <= 100 * MS


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        (GuestReport([], [], 0, 0, 0), "0 names"),
        (GuestReport(["a"], [1, 2], 0, 0, 9), "1 names and 2 ends"),
        (guest_report(range(MAX_GUEST_PHASES + 1)), "33 names"),
        (GuestReport(["</script>"], [1], 0, 0, 9), "malformed"),
        (GuestReport(["kernel\n"], [1], 0, 0, 9), "malformed"),
        (GuestReport(["a" * 25], [1], 0, 0, 9), "malformed"),
        (guest_report([5, 4]), "not in order"),
        (guest_report([5], began=6), "not in order"),
        (guest_report([5], sent=4), "not in order"),
        (guest_report([5], began=-1), "not in order"),
        (guest_report([5], answered=91), "after the report"),
        (guest_report([5], answered=-1), "after the report"),
        (guest_report([5], sent=101), "more time has passed"),
    ],
)
def test_what_cannot_be_is_refused(report: GuestReport, problem: str) -> None:
    timeline, _ = started()
    with pytest.raises(ReportError, match=problem):
        timeline.reported(report)
    timeline.reported(guest_report([1]))


def test_a_guest_tells_its_phases_once() -> None:
    timeline, _ = started()
    timeline.reported(guest_report([1]))
    with pytest.raises(ReportError, match="before"):
        timeline.reported(guest_report([2]))
    assert guest_times(timeline) == [(35, 36)]


def test_phases_of_the_host_have_a_bound() -> None:
    timeline = Timeline(Clock())
    for _ in range(10 * MAX_HOST_PHASES):
        timeline.ended("state")
    assert len(timeline.picture().phases) == MAX_HOST_PHASES
