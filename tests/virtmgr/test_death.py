"""Which reason a death gets."""

import pytest

from avf.aidl.virtualizationcommon import DeathReason
from avf.virtmgr.death import death_reason
from avf.vmm import ExitCause, ExitReport


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (ExitCause.SHUTDOWN, DeathReason.SHUTDOWN),
        (ExitCause.REBOOT, DeathReason.REBOOT),
        (ExitCause.CRASH, DeathReason.CRASH),
        (ExitCause.WATCHDOG, DeathReason.WATCHDOG_REBOOT),
        (ExitCause.KILLED, DeathReason.KILLED),
        (ExitCause.START_FAILED, DeathReason.START_FAILED),
        (ExitCause.INFRASTRUCTURE, DeathReason.INFRASTRUCTURE_ERROR),
        (ExitCause.UNKNOWN, DeathReason.UNKNOWN),
    ],
)
def test_how_the_vmm_ended(cause: ExitCause, reason: DeathReason) -> None:
    assert death_reason(ExitReport(cause, 0), "") is reason


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (
            "MICRODROID_PAYLOAD_VERIFICATION_FAILED",
            DeathReason.MICRODROID_PAYLOAD_VERIFICATION_FAILED,
        ),
        (
            "MICRODROID_UNKNOWN_RUNTIME_ERROR|what | happened",
            DeathReason.MICRODROID_UNKNOWN_RUNTIME_ERROR,
        ),
        ("HANGUP", DeathReason.HANGUP),
        ("HANGUP ", DeathReason.SHUTDOWN),
        ("hangup", DeathReason.SHUTDOWN),
        ("KILLED", DeathReason.SHUTDOWN),
        ("|MICRODROID_UNKNOWN_RUNTIME_ERROR", DeathReason.SHUTDOWN),
    ],
)
def test_what_the_guest_wrote_wins(failure: str, reason: DeathReason) -> None:
    assert death_reason(ExitReport(ExitCause.SHUTDOWN, 0), failure) is reason


def test_a_vmm_that_cannot_be_waited_for() -> None:
    assert death_reason(None, "HANGUP") is DeathReason.INFRASTRUCTURE_ERROR
