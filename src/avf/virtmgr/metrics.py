"""What is measured of one VM, and the atoms that tell it."""

import itertools
import logging
import os
import threading
import time
from pathlib import Path

from avf.aidl.virtualizationcommon import DeathReason
from avf.aidl.virtualizationservice_internal import AtomVmBooted, AtomVmExited
from avf.aidl.vm_control import MetricsSample
from avf.aidl.vm_control import VmMetrics as MetricsSnapshot
from avf.virtmgr.atoms import AtomSender
from avf.virtmgr.history import History, Sample

SAMPLE_SECONDS = 1.0
FIRST_SAMPLE_SECONDS = 0.25
FIRST_SAMPLES = 12
"""At first samples are taken more often: many VMs live for some seconds only."""
LARGEST_SHARE = 0.005
"""Of a CPU, for the samples of one VM: the kernel looks at each page of its memory for one."""
USER_TIME_FIELD, SYSTEM_TIME_FIELD, GUEST_TIME_FIELD = 13, 14, 42
GUEST_MEMORY_NAMES = (
    b"crosvm_guest",
    b"memfd:memory-backend-memfd",
    b"memfd:avf-template",
    b"/dev/zero (deleted)",
)

log = logging.getLogger(__name__)


class VmMetrics:
    """Sampled about once a second from start to death, less often where a sample takes long.

    One lock, never held while another is taken.
    """

    def __init__(self, sender: AtomSender, uid: int, identifier: str) -> None:
        self._sender = sender
        self._uid = uid
        self._identifier = identifier
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._created_at = time.monotonic()
        self._started_at: float | None = None
        self._guest_millis = 0
        self._cpu_millis = 0
        self._rss_vm_kb = 0
        self._rss_vmm_kb = 0
        self._history = History()

    def started(self) -> None:
        with self._lock:
            self._started_at = time.monotonic()

    def sample(self, pid: int) -> None:
        """Samples process `pid` from now on, in a thread of its own."""
        thread = threading.Thread(target=self._run, args=(pid,), name=f"metrics-{pid}", daemon=True)
        try:
            thread.start()
        except RuntimeError as e:
            log.warning("no metrics of process %d: %s", pid, e)

    def ended(self) -> None:
        self._ended.set()

    def booted(self) -> None:
        atom = AtomVmBooted(
            uid=self._uid, vm_identifier=self._identifier, elapsed_time_millis=self._elapsed()
        )
        self._sender.send(lambda service: service.atom_vm_booted(atom))

    def exited(self, reason: DeathReason, exit_signal: int) -> None:
        with self._lock:
            guest, rss_vm, rss_vmm = self._guest_millis, self._rss_vm_kb, self._rss_vmm_kb
        atom = AtomVmExited(
            uid=self._uid,
            vm_identifier=self._identifier,
            death_reason=reason,
            exit_signal=exit_signal,
            elapsed_time_millis=self._elapsed(),
            guest_time_millis=guest,
            rss_vm_kb=rss_vm,
            rss_crosvm_kb=rss_vmm,
        )
        self._sender.send(lambda service: service.atom_vm_exited(atom))

    def millis_since_creation(self) -> int:
        return int((time.monotonic() - self._created_at) * 1000)

    def millis_since_start(self) -> int:
        """-1 if it was never started."""
        with self._lock:
            started = self._started_at
        return -1 if started is None else int((time.monotonic() - started) * 1000)

    def snapshot(self) -> MetricsSnapshot:
        """What is kept when the VM has died."""
        with self._lock:
            return MetricsSnapshot(
                cpu_time_millis=self._cpu_millis,
                guest_time_millis=self._guest_millis,
                peak_rss_vm_kb=self._rss_vm_kb,
                peak_rss_vmm_kb=self._rss_vmm_kb,
            )

    def history(self, after_millis: int) -> list[MetricsSample]:
        """See IVmControl.getMetricsHistory."""
        with self._lock:
            samples = self._history.after(after_millis)
        return [
            MetricsSample(
                uptime_millis=sample.uptime_millis,
                cpu_time_millis=sample.cpu_millis,
                guest_time_millis=sample.guest_millis,
                rss_vm_kb=sample.rss_vm_kb,
                rss_vmm_kb=sample.rss_vmm_kb,
            )
            for sample in samples
        ]

    def _elapsed(self) -> int:
        return max(0, self.millis_since_start())

    def _run(self, pid: int) -> None:
        for number in itertools.count():
            began = time.thread_time()
            try:
                cpu, guest = cpu_time_millis(pid), guest_time_millis(pid)
                rss_vm, rss_vmm = resident_kb(pid)
            except (OSError, ValueError, IndexError) as e:
                log.debug("no more metrics of process %d: %s", pid, e)
                return
            uptime = self.millis_since_start()
            with self._lock:
                self._cpu_millis = cpu
                self._guest_millis = guest
                self._rss_vm_kb = max(self._rss_vm_kb, rss_vm)
                self._rss_vmm_kb = max(self._rss_vmm_kb, rss_vmm)
                self._history.add(Sample(uptime, cpu, guest, rss_vm, rss_vmm))
            if self._ended.wait(pause_after(number, time.thread_time() - began)):
                return


def pause_after(number: int, cost: float) -> float:
    """Seconds from one sample to the next, if that with this number, from 0, took `cost` seconds of a CPU."""
    usual = FIRST_SAMPLE_SECONDS if number < FIRST_SAMPLES else SAMPLE_SECONDS
    return max(usual, cost / LARGEST_SHARE)


def guest_time_millis(pid: int) -> int:
    """CPU time the process has spent in its guest (proc(5), stat, guest_time; 0 under emulation)."""
    return _ticks_to_millis(_stat_fields(pid)[GUEST_TIME_FIELD])


def cpu_time_millis(pid: int) -> int:
    """CPU time of the process, that in its guest included (proc(5), stat, utime and stime)."""
    fields = _stat_fields(pid)
    return _ticks_to_millis(fields[USER_TIME_FIELD], fields[SYSTEM_TIME_FIELD])


def _stat_fields(pid: int) -> list[str]:
    """By index; what stands before the state is left out."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return ["", "", *text.rpartition(")")[2].split()]


def _ticks_to_millis(*ticks: str) -> int:
    return sum(map(int, ticks)) * 1000 // os.sysconf("SC_CLK_TCK")


def resident_kb(pid: int) -> tuple[int, int]:
    """KiB of memory in RAM: the guest's, and the whole process's (proc(5), smaps, Rss)."""
    guest = total = 0
    in_guest_memory = False
    with open(f"/proc/{pid}/smaps", "rb") as smaps:
        for line in smaps:
            if line.startswith(b"Rss:"):
                size = int(line.split()[1])
                total += size
                guest += size if in_guest_memory else 0
            elif b"-" in line.split(b" ", 1)[0]:
                in_guest_memory = any(name in line for name in GUEST_MEMORY_NAMES)
    return guest, total
