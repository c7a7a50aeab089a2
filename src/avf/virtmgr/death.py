"""Why a VM died: one place decides."""

import logging

from avf.aidl.virtualizationcommon import DeathReason
from avf.vmm import ExitCause, ExitReport

log = logging.getLogger(__name__)

HANGUP = "HANGUP"
MAX_INFO = 4096
"""Characters of what a guest says of its failure that are logged."""

_FAILURES = {
    name: DeathReason[name]
    for name in (
        "PVM_FIRMWARE_PUBLIC_KEY_MISMATCH",
        "PVM_FIRMWARE_INSTANCE_IMAGE_CHANGED",
        "BOOTLOADER_PUBLIC_KEY_MISMATCH",
        "BOOTLOADER_INSTANCE_IMAGE_CHANGED",
        "MICRODROID_FAILED_TO_CONNECT_TO_VIRTUALIZATION_SERVICE",
        "MICRODROID_PAYLOAD_HAS_CHANGED",
        "MICRODROID_PAYLOAD_VERIFICATION_FAILED",
        "MICRODROID_INVALID_PAYLOAD_CONFIG",
        "MICRODROID_UNKNOWN_RUNTIME_ERROR",
        HANGUP,
    )
}

_CAUSES = {
    ExitCause.SHUTDOWN: DeathReason.SHUTDOWN,
    ExitCause.REBOOT: DeathReason.REBOOT,
    ExitCause.CRASH: DeathReason.CRASH,
    ExitCause.WATCHDOG: DeathReason.WATCHDOG_REBOOT,
    ExitCause.KILLED: DeathReason.KILLED,
    ExitCause.START_FAILED: DeathReason.START_FAILED,
    ExitCause.INFRASTRUCTURE: DeathReason.INFRASTRUCTURE_ERROR,
    ExitCause.UNKNOWN: DeathReason.UNKNOWN,
}


def death_reason(report: ExitReport | None, failure: str) -> DeathReason:
    """The reason from how the VMM ended (None: it could not be waited for) and what the guest wrote to its
    failure port, whose word counts for more."""
    if report is None:
        return DeathReason.INFRASTRUCTURE_ERROR
    word, _, info = failure.partition("|")
    if info:
        log.info("Failure info: %s", info[:MAX_INFO])
    return _FAILURES.get(word) or _CAUSES[report.cause]
