# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/VirtualMachineDebugInfo.aidl

"""AIDL parcelable android.system.virtualizationservice.VirtualMachineDebugInfo."""

from __future__ import annotations

from avf.binder import Parcelable

__all__ = ["VirtualMachineDebugInfo"]


class VirtualMachineDebugInfo(
    Parcelable, descriptor="android.system.virtualizationservice.VirtualMachineDebugInfo"
):
    """One line of debugListVms."""

    cid: int = 0
    temporary_directory: str = ""
    requester_uid: int = 0
    requester_pid: int = 0
