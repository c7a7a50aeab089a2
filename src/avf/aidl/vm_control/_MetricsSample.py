# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/MetricsSample.aidl

"""AIDL parcelable org.avf.linux.control.MetricsSample."""

from __future__ import annotations

from avf.binder import Long, Parcelable

__all__ = ["MetricsSample"]


class MetricsSample(Parcelable, descriptor="org.avf.linux.control.MetricsSample"):
    """What a VM used at one moment."""

    uptime_millis: Long = 0
    """Milliseconds since the VM was started."""
    cpu_time_millis: Long = 0
    """CPU time since the start, of the VMM, its guest included."""
    guest_time_millis: Long = 0
    """0 under emulation."""
    rss_vm_kb: Long = 0
    rss_vmm_kb: Long = 0
    """Of the whole VMM, the guest's memory included."""
