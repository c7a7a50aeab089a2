# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/IVmControl.aidl

"""AIDL interface org.avf.linux.control.IVmControl.

What the owner of a VM, and root, can ask of it from outside. Not in the original.
"""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import IBinder, Interface, Long, ParcelFileDescriptor, method

__all__ = ["IVmControl"]


class IVmControl(Interface, descriptor="org.avf.linux.control.IVmControl"):
    """One VM, seen from outside. Holding this is not holding the VM: it neither keeps it alive nor ends it."""

    CONTROL_SOCKET_NAME = "control.sock"
    """The unix socket in a VM's directory whose root object is the VM's IVmControl."""

    @method(1)
    @abstractmethod
    def get_info(self) -> VmInfo:
        """What the VM is: its configuration and its state."""
        raise NotImplementedError

    @method(2)
    @abstractmethod
    def get_metrics(self) -> VmMetrics:
        """What the VM has used up to now. After its death, what it had used when it was last measured."""
        raise NotImplementedError

    @method(3)
    @abstractmethod
    def get_death_report(self) -> DeathReport | None:
        """Null while the VM has not died."""
        raise NotImplementedError

    @method(4)
    @abstractmethod
    def stop(self) -> None:
        """Kills the VM; returns when all of it is gone. Service-specific error -1 if it is not running."""
        raise NotImplementedError

    @method(5)
    @abstractmethod
    def attach_console(self, live: bool) -> ParcelFileDescriptor:
        """A stream socket: the last of what the console said, then, if `live`, what it goes on to say, until it ends.

        What is written to it goes to the console of a running guest that takes input. Service-specific error -1 if the
        VM has no console to show.
        """
        raise NotImplementedError

    @method(6)
    @abstractmethod
    def follow_log(self, live: bool) -> ParcelFileDescriptor:
        """As attach_console, for the log, which takes no input."""
        raise NotImplementedError

    @method(7)
    @abstractmethod
    def connect_vsock(self, port: int) -> ParcelFileDescriptor:
        """A stream socket to vsock port `port` of the running guest, as IVirtualMachine.connect_vsock gives one:
        unsigned, from 1024 on. Service-specific error -1 if the VM does not run, or the guest refuses.
        """
        raise NotImplementedError

    @method(8)
    @abstractmethod
    def connect_shell(self) -> ParcelFileDescriptor:
        """As connect_vsock, to the guest's shell service. Only debuggable guests have one; others refuse."""
        raise NotImplementedError

    @method(9)
    @abstractmethod
    def get_metrics_history(self, after_millis: Long) -> list[MetricsSample]:
        """What the VM has used since its start, oldest first: the last 120 samples as they were taken, about one a
        second or, of a large VM, one in a few seconds; what was before in at most 240 steps, of which each has the
        highest memory in it and the CPU time at its end. Kept when the VM has died.

        `after_millis`: only samples of a later uptime, -1 for all.
        """
        raise NotImplementedError

    @method(10)
    @abstractmethod
    def get_timeline(self) -> Timeline:
        """Where the time of the VM's start went, as far as it has come. Kept when the VM has died."""
        raise NotImplementedError

    @method(11)
    @abstractmethod
    def get_parts(self) -> VmParts:
        """Kept when the VM has died."""
        raise NotImplementedError

    @method(12)
    @abstractmethod
    def fork(
        self,
        name: str,
        console_fd: ParcelFileDescriptor | None,
        log_fd: ParcelFileDescriptor | None,
    ) -> IBinder:
        """A new VM that goes on from where this one is now: the android.system.virtualizationservice.IVirtualMachine of
        a clone that has not been started. Who lets go of it kills it, and it ends with the client of this VM.

        This VM stands still meanwhile, and all its vsock connections end. The clone has a CID, random numbers, a boot
        ID and a clock of its own before its payload runs on, and its payload is told.

        `name`: of the clone; empty for one made of this VM's. SECURITY for a VM that was not made `forkable`;
        ILLEGAL_STATE for one whose payload has not started or has asked for secrets; UNSUPPORTED_OPERATION for a clone.
        """
        raise NotImplementedError


from ._DeathReport import DeathReport  # noqa: E402
from ._MetricsSample import MetricsSample  # noqa: E402
from ._Timeline import Timeline  # noqa: E402
from ._VmInfo import VmInfo  # noqa: E402
from ._VmMetrics import VmMetrics  # noqa: E402
from ._VmParts import VmParts  # noqa: E402
