# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/MemoryTrimLevel.aidl

"""AIDL enum android.system.virtualizationservice.MemoryTrimLevel."""

from __future__ import annotations

from avf.binder import Enum

__all__ = ["MemoryTrimLevel"]


class MemoryTrimLevel(Enum):
    """How short of memory the owner of a VM is."""

    TRIM_MEMORY_RUNNING_CRITICAL = 0
    TRIM_MEMORY_RUNNING_LOW = 1
    TRIM_MEMORY_RUNNING_MODERATE = 2
