"""What a VM has used over its life, in bounded memory: its last minutes exactly, what was before in coarser steps."""

from collections import deque
from typing import NamedTuple

RECENT_SAMPLES = 120
OLDER_STEPS = 240
"""Even: when there are so many, each two of them become one."""


class Sample(NamedTuple):
    """What was measured at one moment."""

    uptime_millis: int
    """Since the VM's start."""
    cpu_millis: int
    """CPU time since the start, as `guest_millis`."""
    guest_millis: int
    rss_vm_kb: int
    rss_vmm_kb: int

    def joined(self, later: "Sample") -> "Sample":
        """Both as one step: the times at its end, the highest memory in it."""
        return later._replace(
            rss_vm_kb=max(self.rss_vm_kb, later.rss_vm_kb),
            rss_vmm_kb=max(self.rss_vmm_kb, later.rss_vmm_kb),
        )


class History:
    """Samples in the order of their time; at most RECENT_SAMPLES + OLDER_STEPS of them are kept."""

    def __init__(self) -> None:
        self._recent: deque[Sample] = deque()
        self._older: list[Sample] = []
        self._stride = 1
        """How many samples make a step of the older ones."""
        self._step: Sample | None = None
        """The step that is being filled, of `_filled` samples."""
        self._filled = 0

    def add(self, sample: Sample) -> None:
        self._recent.append(sample)
        if len(self._recent) > RECENT_SAMPLES:
            self._age(self._recent.popleft())

    def after(self, uptime_millis: int) -> list[Sample]:
        """Those of a later uptime, oldest first; -1 gives all."""
        step = [] if self._step is None else [self._step]
        samples = [*self._older, *step, *self._recent]
        return [sample for sample in samples if sample.uptime_millis > uptime_millis]

    def _age(self, sample: Sample) -> None:
        self._step = sample if self._step is None else self._step.joined(sample)
        self._filled += 1
        if self._filled < self._stride:
            return
        self._older.append(self._step)
        self._step, self._filled = None, 0
        if len(self._older) == OLDER_STEPS:
            pairs = zip(self._older[::2], self._older[1::2], strict=True)
            self._older = [first.joined(second) for first, second in pairs]
            self._stride *= 2
