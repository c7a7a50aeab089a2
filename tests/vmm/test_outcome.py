"""From events and exit statuses to causes."""

import pytest

from avf.vmm import ExitCause
from avf.vmm.qemu.outcome import Outcome

SHUTDOWN = ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
RESET = ("SHUTDOWN", {"guest": True, "reason": "guest-reset"})
PANIC = ("GUEST_PANICKED", {"action": "run"})
WATCHDOG = ("WATCHDOG", {"action": "reset"})


def host(reason: str) -> tuple[str, dict[str, object]]:
    return ("SHUTDOWN", {"guest": False, "reason": reason})


@pytest.mark.parametrize(
    ("events", "returncode", "cause"),
    [
        ([SHUTDOWN], 0, ExitCause.SHUTDOWN),
        ([RESET], 0, ExitCause.REBOOT),
        ([PANIC, RESET], 0, ExitCause.CRASH),
        ([PANIC, host("guest-panic")], 0, ExitCause.CRASH),
        ([("GUEST_PVSHUTDOWN", {}), SHUTDOWN], 0, ExitCause.SHUTDOWN),
        ([WATCHDOG, RESET], 0, ExitCause.WATCHDOG),
        ([host("host-signal")], 0, ExitCause.KILLED),
        ([host("host-qmp-quit")], 0, ExitCause.KILLED),
        ([SHUTDOWN], -9, ExitCause.KILLED),
        ([], -9, ExitCause.KILLED),
        ([], -31, ExitCause.KILLED),
        ([], 1, ExitCause.UNKNOWN),
        ([], 0, ExitCause.UNKNOWN),
        ([("SHUTDOWN", {"reason": "something-new"})], 0, ExitCause.UNKNOWN),
        ([("SHUTDOWN", {"reason": 7}), ("STOP", {})], 0, ExitCause.UNKNOWN),
    ],
)
def test_causes(
    events: list[tuple[str, dict[str, object]]], returncode: int, cause: ExitCause
) -> None:
    outcome = Outcome()
    outcome.started = True
    for name, data in events:
        outcome.qmp_event(name, data)
    assert outcome.cause(returncode) is cause


@pytest.mark.parametrize(
    ("returncode", "lost", "started", "cause"),
    [
        (1, False, False, ExitCause.START_FAILED),
        (127, False, False, ExitCause.START_FAILED),
        (-9, True, False, ExitCause.START_FAILED),
        (-9, True, True, ExitCause.INFRASTRUCTURE),
    ],
)
def test_failures(returncode: int, lost: bool, started: bool, cause: ExitCause) -> None:
    outcome = Outcome()
    outcome.started, outcome.lost = started, lost
    assert outcome.cause(returncode) is cause


def test_a_guest_that_was_killed_because_the_hypervisor_gave_up_has_crashed() -> None:
    outcome = Outcome()
    outcome.started = outcome.broken = True
    assert outcome.cause(-9) is ExitCause.CRASH


def test_a_guest_cannot_fill_memory_with_events() -> None:
    outcome = Outcome()
    names = ["BLOCK_IO_ERROR", "GUEST_PANICKED", "BALLOON_CHANGE", "SOMETHING_NEW"]
    lines = [outcome.qmp_event(name, {"action": "x" * 9}) for _ in range(10_000) for name in names]
    told = [line for line in lines if line is not None]
    assert told == ["BLOCK_IO_ERROR xxxxxxxxx", "GUEST_PANICKED xxxxxxxxx"] * 10
    assert outcome.qmp_event(*SHUTDOWN) == "SHUTDOWN guest-shutdown"
    for line in told * 100:
        outcome.note(line)
    assert len(outcome.events) == 32


@pytest.mark.parametrize(
    ("returncode", "lost", "given_up", "interrupted"),
    [
        (-9, False, False, True),
        (-9, False, True, False),
        (-9, True, False, True),
        (-11, False, False, False),
        (1, False, False, False),
        (0, False, False, False),
    ],
    ids=["killed", "killed by us", "without its device", "crashed", "failed", "ended"],
)
def test_who_is_killed_by_others_is_interrupted(
    returncode: int, lost: bool, given_up: bool, interrupted: bool
) -> None:
    outcome = Outcome()
    outcome.lost, outcome.given_up = lost, given_up
    assert outcome.interrupted(returncode) is interrupted
