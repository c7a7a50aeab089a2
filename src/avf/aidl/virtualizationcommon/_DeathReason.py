# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationcommon/DeathReason.aidl

"""AIDL enum android.system.virtualizationcommon.DeathReason."""

from __future__ import annotations

from avf.binder import Enum

__all__ = ["DeathReason"]


class DeathReason(Enum):
    """Why a VM died, as told to its owner."""

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
