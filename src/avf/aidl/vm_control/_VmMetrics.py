# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/VmMetrics.aidl

"""AIDL parcelable org.avf.linux.control.VmMetrics."""

from __future__ import annotations

from avf.binder import Long, Parcelable

__all__ = ["VmMetrics"]


class VmMetrics(Parcelable, descriptor="org.avf.linux.control.VmMetrics"):
    """What a VM uses. The present values are 0 unless it runs, the others are kept."""

    cpu_time_millis: Long = 0
    """Of the VMM, its guest included."""
    guest_time_millis: Long = 0
    """0 under emulation."""
    rss_vm_kb: Long = 0
    rss_vmm_kb: Long = 0
    """Of the whole VMM, the guest's memory included."""
    peak_rss_vm_kb: Long = 0
    peak_rss_vmm_kb: Long = 0
