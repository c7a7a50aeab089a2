"""What can be asked of a VM, by its owner and by those who look into it from outside."""

import os
import socket
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass

from avf.aidl.virtualizationservice import VirtualMachineState
from avf.aidl.vm_control import IVmControl, PayloadState
from avf.client.history import MetricsSample, after_millis, samples
from avf.client.timeline import Timeline

_UNSIGNED = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class VmDetails:
    """What a VM is, and how far it has come."""

    cid: int
    name: str
    state: VirtualMachineState
    payload_state: PayloadState
    vmm: str
    vmm_pid: int | None
    """None unless the VM runs."""
    requester_uid: int
    requester_pid: int
    protected: bool
    memory_mib: int | None
    """None: whatever the VMM gives."""
    cpus: int | None
    """None: as many as the host has."""
    age: float
    """Seconds since it was created."""
    uptime: float | None
    """Seconds since it was started; None: never."""
    has_console: bool
    has_log: bool
    takes_console_input: bool
    debugger_socket: str | None
    """The path of the unix socket at which it waits for a debugger; None: it does not."""


@dataclass(frozen=True, slots=True)
class VmMetrics:
    """What a VM uses; the present values are 0 unless it runs."""

    cpu_time_millis: int
    guest_time_millis: int
    rss_vm_kb: int
    rss_vmm_kb: int
    peak_rss_vm_kb: int
    peak_rss_vmm_kb: int


@dataclass(frozen=True, slots=True)
class VmFile:
    """A file that a VM was made of, as it was then."""

    label: str
    """`kernel`, `initrd`, `bootloader`, `disk`, or the label of a partition."""
    disk: int | None
    """Which disk it is a part of, from 0."""
    path: str
    """By which it was opened, as far as the kernel knows; empty for a file in memory."""
    size: int
    writable: bool
    """By the guest."""
    device: int
    inode: int
    modified_ns: int

    def is_at(self, status: os.stat_result) -> bool:
        """Whether a file that was found at the path is this one, and as it was."""
        same = (status.st_dev, status.st_ino) == (self.device, self.inode)
        return same and (status.st_size, status.st_mtime_ns) == (self.size, self.modified_ns)


@dataclass(frozen=True, slots=True)
class VmParts:
    """What a VM was made of."""

    payload: str
    """Of an app: the payload's file, or the path of its configuration in the APK; else empty."""
    is_app: bool
    is_debuggable: bool
    arguments: tuple[str, ...]
    """The payload's."""
    variables: tuple[str, ...]
    """The names of the payload's variables."""
    files: tuple[VmFile, ...]


class Inspection(ABC):
    """What a VM tells of itself, as long as its owner holds it, also when it has died."""

    @abstractmethod
    def _inspected(self) -> AbstractContextManager[IVmControl]:
        """The VM's control object; what goes wrong in its calls becomes an error of this package."""

    def details(self) -> VmDetails:
        """Its configuration and its state, now."""
        with self._inspected() as control:
            info = control.get_info()
        started = info.started_millis_ago
        return VmDetails(
            cid=info.cid,
            name=info.name,
            state=info.state,
            payload_state=info.payload_state,
            vmm=info.vmm,
            vmm_pid=info.vmm_pid or None,
            requester_uid=info.requester_uid,
            requester_pid=info.requester_pid,
            protected=info.is_protected,
            memory_mib=info.memory_mib or None,
            cpus=info.num_cpus or None,
            age=info.created_millis_ago / 1000,
            uptime=None if started < 0 else started / 1000,
            has_console=info.has_console,
            has_log=info.has_log,
            takes_console_input=info.takes_console_input,
            debugger_socket=info.debugger_socket or None,
        )

    def metrics(self) -> VmMetrics:
        """What it uses now, and the most that it has used."""
        with self._inspected() as control:
            now = control.get_metrics()
        return VmMetrics(
            now.cpu_time_millis,
            now.guest_time_millis,
            now.rss_vm_kb,
            now.rss_vmm_kb,
            now.peak_rss_vm_kb,
            now.peak_rss_vmm_kb,
        )

    def history(self, after: float | None = None) -> list[MetricsSample]:
        """What the VM has used since its start, oldest first.

        The last 120 samples as they were taken, about one a second or, of a large VM, one in a few seconds; what was
        before in at most 240 steps, of which each has the highest memory in it and the CPU time at its end. `after`:
        only samples of a later uptime, in seconds, such as that of the last one that is known.
        """
        with self._inspected() as control:
            return samples(control.get_metrics_history(after_millis(after)))

    def timeline(self) -> Timeline:
        """Where the time of the VM's start went, as far as it has come."""
        with self._inspected() as control:
            return Timeline.from_aidl(control.get_timeline())

    def parts(self) -> VmParts:
        """What the VM was made of: its payload and its files, at most 256 of them."""
        with self._inspected() as control:
            told = control.get_parts()
        files = (
            VmFile(
                file.label,
                None if file.disk < 0 else file.disk,
                file.path,
                file.size,
                file.is_writable,
                file.device & _UNSIGNED,
                file.inode & _UNSIGNED,
                file.modified_nanos,
            )
            for file in told.files
        )
        return VmParts(
            told.payload,
            told.is_app,
            told.is_debuggable,
            tuple(told.arguments),
            tuple(told.variables),
            tuple(files),
        )

    def attach_console(self, *, live: bool = True) -> socket.socket:
        """A stream: the last of what the console said, then, if `live`, what it goes on to say, until it ends.

        What is written to it goes to the guest's console, if that takes input.
        """
        with self._inspected() as control:
            stream = control.attach_console(live)
        return socket.socket(fileno=stream.detach())

    def follow_log(self, *, live: bool = True) -> socket.socket:
        """As attach_console, for the log, which takes no input."""
        with self._inspected() as control:
            stream = control.follow_log(live)
        return socket.socket(fileno=stream.detach())
