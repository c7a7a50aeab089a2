# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice_internal/AtomVmExited.aidl

"""AIDL parcelable android.system.virtualizationservice_internal.AtomVmExited."""

from __future__ import annotations

from avf.binder import Long, Parcelable, field

__all__ = ["AtomVmExited"]


class AtomVmExited(
    Parcelable, descriptor="android.system.virtualizationservice_internal.AtomVmExited"
):
    """A VM has died."""

    uid: int = 0
    vm_identifier: str = ""
    death_reason: DeathReason = field(factory=lambda: DeathReason.INFRASTRUCTURE_ERROR)
    exit_signal: int = 0
    elapsed_time_millis: Long = 0
    guest_time_millis: Long = 0
    rss_vm_kb: Long = 0
    rss_crosvm_kb: Long = 0


from avf.aidl.virtualizationcommon import DeathReason  # noqa: E402
