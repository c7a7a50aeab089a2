# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice_internal/AtomVmBooted.aidl

"""AIDL parcelable android.system.virtualizationservice_internal.AtomVmBooted."""

from __future__ import annotations

from avf.binder import Long, Parcelable

__all__ = ["AtomVmBooted"]


class AtomVmBooted(
    Parcelable, descriptor="android.system.virtualizationservice_internal.AtomVmBooted"
):
    """The payload of a VM has started."""

    uid: int = 0
    vm_identifier: str = ""
    elapsed_time_millis: Long = 0
