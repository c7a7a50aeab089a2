"""What a VM used over time, bounded."""

from collections import deque
from dataclasses import dataclass

from avf.client.control import VmMetrics

LENGTH = 900
"""Samples that are kept of a VM: a quarter of an hour, with one a second."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a VM used at one moment."""

    at: float
    """Seconds of a monotonic clock."""
    cpu_percent: float
    """Of one CPU, by the VMM with its guest, since the sample before; of the first one since the start of the VM."""
    guest_mib: float
    """Memory of the guest that is in the host's RAM."""
    vmm_mib: float
    """The same of the whole VMM, the guest's memory included."""


class History:
    """The last samples of one VM, made of what its virtmgr has counted."""

    def __init__(self, length: int = LENGTH) -> None:
        self._samples: deque[Sample] = deque(maxlen=length)
        self._before: tuple[float, int] | None = None

    def add(self, at: float, metrics: VmMetrics, uptime: float) -> None:
        """`at`: when `metrics` was asked for; `uptime`: seconds since the start of the VM."""
        since, used = self._before or (at - uptime, 0)
        self._before = at, metrics.cpu_time_millis
        spent = max(0, metrics.cpu_time_millis - used) / 10
        self._samples.append(
            Sample(
                at,
                spent / (at - since) if at > since else 0.0,
                metrics.rss_vm_kb / 1024,
                metrics.rss_vmm_kb / 1024,
            )
        )

    def samples(self) -> tuple[Sample, ...]:
        """Oldest first."""
        return tuple(self._samples)
