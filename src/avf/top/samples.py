"""What a VM used over time, bounded."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from avf.client.control import MetricsSample, VmMetrics

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
        self._add(at, at - uptime, metrics)

    def add_earlier(self, at: float, uptime: float, samples: Iterable[MetricsSample]) -> None:
        """What virtmgr has measured before `at`, when the VM was started `uptime` seconds ago."""
        started = at - uptime
        for sample in samples:
            self._add(started + sample.uptime, started, sample)

    def _add(self, at: float, started: float, used: VmMetrics | MetricsSample) -> None:
        since, before = self._before or (started, 0)
        if at <= since:
            return
        self._before = at, used.cpu_time_millis
        spent = max(0, used.cpu_time_millis - before) / 10
        self._samples.append(
            Sample(at, spent / (at - since), used.rss_vm_kb / 1024, used.rss_vmm_kb / 1024)
        )

    def samples(self) -> tuple[Sample, ...]:
        """Oldest first."""
        return tuple(self._samples)
