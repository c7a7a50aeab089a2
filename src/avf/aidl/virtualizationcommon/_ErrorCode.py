# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationcommon/ErrorCode.aidl

"""AIDL enum android.system.virtualizationcommon.ErrorCode."""

from __future__ import annotations

from avf.binder import Enum

__all__ = ["ErrorCode"]


class ErrorCode(Enum):
    """What went wrong in the guest, as the guest tells it."""

    UNKNOWN = 0
    PAYLOAD_VERIFICATION_FAILED = 1
    PAYLOAD_CHANGED = 2
    PAYLOAD_CONFIG_INVALID = 3
