# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/DiskImage.aidl

"""AIDL parcelable android.system.virtualizationservice.DiskImage."""

from __future__ import annotations

from avf.binder import Parcelable, ParcelFileDescriptor

__all__ = ["DiskImage"]


class DiskImage(Parcelable, descriptor="android.system.virtualizationservice.DiskImage"):
    """A disk: an image, or partitions, never both."""

    image: ParcelFileDescriptor | None = None
    writable: bool = False
    partitions: list[Partition] = []


from ._Partition import Partition  # noqa: E402
