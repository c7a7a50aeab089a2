from hypothesis import given
from hypothesis import strategies as st

from avf.client import (
    DeathReason,
    Died,
    ErrorCode,
    Event,
    Finished,
    PayloadError,
    PayloadFinished,
    PayloadReady,
    PayloadStarted,
    TimedOut,
    VirtualMachineState,
    VmDied,
)
from avf.client.lifecycle import Lifecycle

EVENTS: list[Event] = [
    PayloadStarted(),
    PayloadReady(),
    PayloadFinished(3),
    PayloadError(ErrorCode.UNKNOWN, "no"),
    VmDied(DeathReason.CRASH),
]


def after(*events: Event) -> Lifecycle:
    lifecycle = Lifecycle()
    for event in events:
        lifecycle.accept(event)
    return lifecycle


def test_nothing_known_is_timed_out() -> None:
    error = after().not_ready()
    assert isinstance(error, TimedOut)
    assert str(error) == "Timed out waiting for VM."


def test_started_is_not_ready_yet() -> None:
    assert isinstance(after(PayloadStarted()).not_ready(), TimedOut)


def test_ready() -> None:
    assert after(PayloadStarted(), PayloadReady()).not_ready() is None


def test_finished_tells_the_exit_code() -> None:
    error = after(PayloadReady(), PayloadFinished(3)).not_ready()
    assert isinstance(error, Finished)
    assert (error.exit_code, error.error) == (3, None)
    assert str(error) == "VM payload finished. (exit code 3)"


def test_a_failed_payload_is_finished_and_tells_what_the_guest_reported() -> None:
    reported = PayloadError(ErrorCode.PAYLOAD_CHANGED, "it is another one")
    error = after(reported).not_ready()
    assert isinstance(error, Finished)
    assert (error.exit_code, error.error) == (None, reported)
    assert str(error) == "VM payload finished. PayloadChanged: it is another one"


def test_a_death_tells_what_the_guest_reported_before() -> None:
    reported = PayloadError(ErrorCode.UNKNOWN, "no such payload")
    error = after(reported, VmDied(DeathReason.SHUTDOWN)).not_ready()
    assert isinstance(error, Died)
    assert error.error == reported
    assert str(error) == "VM died. (Shutdown) Unknown: no such payload"


def test_death_goes_before_finished() -> None:
    error = after(PayloadFinished(0), VmDied(DeathReason.SHUTDOWN)).not_ready()
    assert isinstance(error, Died)
    assert error.reason == DeathReason.SHUTDOWN
    assert str(error) == "VM died. (Shutdown)"


def test_the_first_death_counts() -> None:
    lifecycle = after(VmDied(DeathReason.KILLED))
    assert not lifecycle.accept(VmDied(DeathReason.VIRTUALIZATION_SERVICE_DIED))
    assert lifecycle.death_reason == DeathReason.KILLED


@given(st.lists(st.sampled_from(EVENTS)))
def test_states_go_forward_and_the_history_is_short(events: list[Event]) -> None:
    lifecycle = Lifecycle()
    states = [lifecycle.reported]
    for event in events:
        news = lifecycle.accept(event)
        assert news == (lifecycle.reported > states[-1])
        states.append(lifecycle.reported)
    assert states == sorted(states)
    assert len(lifecycle.events) == len(set(states)) - 1 <= 4
    assert (lifecycle.death_reason is not None) == (VmDied(DeathReason.CRASH) in events)
    assert lifecycle.settled == any(not isinstance(event, PayloadStarted) for event in events)
    if lifecycle.death_reason is not None:
        assert lifecycle.reported == VirtualMachineState.DEAD
        assert isinstance(lifecycle.events[-1], VmDied)
