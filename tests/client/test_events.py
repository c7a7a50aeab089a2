import pytest

from avf.aidl import virtualizationcommon as aidl
from avf.client import DeathReason, ErrorCode, PayloadError


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (DeathReason.KILLED, "Killed"),
        (DeathReason.START_FAILED, "StartFailed"),
        (DeathReason.VIRTUALIZATION_SERVICE_DIED, "VirtualizationServiceDied"),
        (DeathReason.WATCHDOG_REBOOT, "WatchdogReboot"),
        (
            DeathReason.MICRODROID_FAILED_TO_CONNECT_TO_VIRTUALIZATION_SERVICE,
            "MicrodroidFailedToConnectToVirtualizationService",
        ),
        (DeathReason(99), "Unrecognised(99)"),
        (ErrorCode.PAYLOAD_CONFIG_INVALID, "PayloadConfigInvalid"),
        (ErrorCode(-5), "Unrecognised(-5)"),
    ],
)
def test_text_is_camel_case(reason: DeathReason | ErrorCode, text: str) -> None:
    assert str(reason) == f"{reason}" == text


@pytest.mark.parametrize(
    ("ours", "theirs"), [(DeathReason, aidl.DeathReason), (ErrorCode, aidl.ErrorCode)]
)
def test_every_aidl_value_has_the_same_name(ours: type, theirs: type) -> None:
    for member in theirs:  # type: ignore[attr-defined]
        assert ours(int(member)).name == member.name


def test_an_unrecognised_value_is_told_from_a_known_one() -> None:
    assert DeathReason.HANGUP.recognised
    assert not DeathReason(99).recognised
    assert DeathReason(99) == DeathReason(99) != DeathReason(98)


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ("Failed to run payload: Payload exited due to signal: 9 (SIGKILL)", 9),
        ("Failed to run payload: Payload exited due to signal: 40 (Real-time signal 6)", 40),
        ("Failed to run payload: out of memory, SIGKILL", 9),
        ("Failed to run payload: SIGNONSENSE", None),
        ("Failed to run payload: signal: 0", None),
        ("Failed to run payload: signal: 65", None),
        ("Failed to run payload", None),
        ("Failed to verify SIGKILL", None),
    ],
)
def test_the_signal_that_ended_a_payload(message: str, number: int | None) -> None:
    assert PayloadError(ErrorCode.UNKNOWN, message).signal == number
