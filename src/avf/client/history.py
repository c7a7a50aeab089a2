"""What a VM used over its life."""

from collections.abc import Iterable
from dataclasses import dataclass

from avf.aidl import vm_control as aidl


@dataclass(frozen=True, slots=True)
class MetricsSample:
    """What a VM used at one moment."""

    uptime: float
    """Seconds since the VM was started."""
    cpu_time_millis: int
    """Since the start, of the VMM, its guest included."""
    guest_time_millis: int
    """0 under emulation."""
    rss_vm_kb: int
    rss_vmm_kb: int
    """Of the whole VMM, the guest's memory included."""


def samples(told: Iterable[aidl.MetricsSample]) -> list[MetricsSample]:
    return [
        MetricsSample(
            sample.uptime_millis / 1000,
            sample.cpu_time_millis,
            sample.guest_time_millis,
            sample.rss_vm_kb,
            sample.rss_vmm_kb,
        )
        for sample in told
    ]


def after_millis(after: float | None) -> int:
    """The argument of getMetricsHistory."""
    return -1 if after is None else round(after * 1000)
