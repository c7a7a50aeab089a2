# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice_internal/AtomVmCreationRequested.aidl

"""AIDL parcelable android.system.virtualizationservice_internal.AtomVmCreationRequested."""

from __future__ import annotations

from avf.binder import Parcelable

__all__ = ["AtomVmCreationRequested"]


class AtomVmCreationRequested(
    Parcelable, descriptor="android.system.virtualizationservice_internal.AtomVmCreationRequested"
):
    """createVm was called, whether it succeeded or not."""

    uid: int = 0
    vm_identifier: str = ""
    is_protected: bool = False
    creation_succeeded: bool = False
    binder_exception_code: int = 0
    config_type: int = 0
    num_cpus: int = 0
    memory_mib: int = 0
    apexes: str = ""
