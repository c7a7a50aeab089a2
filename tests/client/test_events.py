import pytest

from avf.aidl import virtualizationcommon as aidl
from avf.client import DeathReason, ErrorCode


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
