# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/PartitionType.aidl

"""AIDL enum android.system.virtualizationservice.PartitionType."""

from __future__ import annotations

from avf.binder import Enum

__all__ = ["PartitionType"]


class PartitionType(Enum):
    """What initializeWritablePartition puts into a partition."""

    RAW = 0
    ANDROID_VM_INSTANCE = 1
    ENCRYPTEDSTORE = 2
