"""What a client learns of a VM, as values."""

import re
import signal
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from avf.client.remedies import guest_remedy_for

_KILLED = "Failed to run payload"
"""How the guest's message begins when the payload was started and did not return."""
_DOWNGRADE = "Downgrade refused"
_ROLLBACK = "Instance image was rolled back"


class _Named(IntEnum):
    """An integer code whose text is its name in CamelCase; a code nobody knows is `Unrecognised(n)`."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNRECOGNISED_{value}"
        member._value_ = value
        return member

    @property
    def recognised(self) -> bool:
        return self._name_ in type(self).__members__

    def __str__(self) -> str:
        if not self.recognised:
            return f"Unrecognised({self._value_})"
        return "".join(word.capitalize() for word in self._name_.split("_"))


class DeathReason(_Named):
    """Why a VM ended: AIDL's numbers, VIRTUALIZATION_SERVICE_DIED for a virtmgr that went away without a word, and
    TIMED_OUT for a VM that its client killed because its time limit was over.
    """

    TIMED_OUT = -2
    VIRTUALIZATION_SERVICE_DIED = -1
    INFRASTRUCTURE_ERROR = 0
    KILLED = 1
    UNKNOWN = 2
    SHUTDOWN = 3
    START_FAILED = 4
    REBOOT = 5
    CRASH = 6
    PVM_FIRMWARE_PUBLIC_KEY_MISMATCH = 7
    PVM_FIRMWARE_INSTANCE_IMAGE_CHANGED = 8
    BOOTLOADER_PUBLIC_KEY_MISMATCH = 9
    BOOTLOADER_INSTANCE_IMAGE_CHANGED = 10
    MICRODROID_FAILED_TO_CONNECT_TO_VIRTUALIZATION_SERVICE = 11
    MICRODROID_PAYLOAD_HAS_CHANGED = 12
    MICRODROID_PAYLOAD_VERIFICATION_FAILED = 13
    MICRODROID_INVALID_PAYLOAD_CONFIG = 14
    MICRODROID_UNKNOWN_RUNTIME_ERROR = 15
    HANGUP = 16
    WATCHDOG_REBOOT = 17


class ErrorCode(_Named):
    """What the guest reports when it cannot run its payload: AIDL's numbers."""

    UNKNOWN = 0
    PAYLOAD_VERIFICATION_FAILED = 1
    PAYLOAD_CHANGED = 2
    PAYLOAD_CONFIG_INVALID = 3


@dataclass(frozen=True, slots=True)
class PayloadStarted:
    """The guest is about to run the payload."""


@dataclass(frozen=True, slots=True)
class PayloadReady:
    """The payload said that it is ready to be talked to."""


@dataclass(frozen=True, slots=True)
class PayloadFinished:
    """The payload returned or exited; the guest shuts down next."""

    exit_code: int


@dataclass(frozen=True, slots=True)
class PayloadError:
    """The guest could not run the payload, or the payload was killed."""

    code: ErrorCode
    message: str

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended the payload; None if none did."""
        if not self.message.startswith(_KILLED):
            return None
        if found := re.search(r"\bsignal: (\d{1,3})\b", self.message):
            number = int(found[1])
            return number if 0 < number < signal.NSIG else None
        name = re.search(r"\bSIG[A-Z0-9]+\b", self.message)
        return getattr(signal, name[0], None) if name else None

    @property
    def remedy(self) -> str:
        """What to do about it, in words; empty if that depends."""
        return guest_remedy_for(self.message)

    @property
    def is_downgrade(self) -> bool:
        """An APK is older than what the instance has seen; a newer one still has all that was kept."""
        return self.code is ErrorCode.PAYLOAD_CHANGED and self.message.startswith(_DOWNGRADE)

    @property
    def is_rollback(self) -> bool:
        """The instance image is an old one; if that is meant, `forget_instance` lets it be taken."""
        return self.code is ErrorCode.UNKNOWN and self.message.startswith(_ROLLBACK)


@dataclass(frozen=True, slots=True)
class VmDied:
    """The VM is gone. Always the last event."""

    reason: DeathReason


Event = PayloadStarted | PayloadReady | PayloadFinished | PayloadError | VmDied
"""What happens to a VM, in this order; see `VirtualMachine.events`."""
