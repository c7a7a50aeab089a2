# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/Partition.aidl

"""AIDL parcelable android.system.virtualizationservice.Partition."""

from __future__ import annotations

from avf.binder import Parcelable, ParcelFileDescriptor

__all__ = ["Partition"]


class Partition(Parcelable, descriptor="android.system.virtualizationservice.Partition"):
    """One partition of a disk put together from files. `image` is required."""

    label: str = ""
    image: ParcelFileDescriptor | None = None
    writable: bool = False
