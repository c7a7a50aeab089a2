# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualmachineservice/IVirtualMachineService.aidl

"""AIDL interface android.system.virtualmachineservice.IVirtualMachineService.

What a guest tells its host.
"""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import Interface, Long, method

__all__ = ["IVirtualMachineService"]


class IVirtualMachineService(
    Interface, descriptor="android.system.virtualmachineservice.IVirtualMachineService"
):
    """Served by virtmgr on the host vsock port that equals the CID of the VM, for that VM alone."""

    VM_TOMBSTONES_SERVICE_PORT = 2000
    """Host vsock port that takes tombstones of all guests."""
    VM_SHELL_SERVICE_PORT = 22
    """Not in the original. Guest vsock port of the shell service of debuggable guests. Only a process with
    CAP_NET_BIND_SERVICE can listen below 1024, and the payload lacks it.
    """
    VM_STDERR_PORT_BASE = 0x40000000
    """Not in the original. The guest's connection to host vsock port `VM_STDERR_PORT_BASE` + its CID carries the
    payload's standard error, where that is kept apart. There is one such connection; the host closes it when it has
    read all.
    """

    @method(1)
    @abstractmethod
    def notify_payload_started(self) -> None:
        """The agent is about to start the payload, which it has verified."""
        raise NotImplementedError

    @method(2)
    @abstractmethod
    def notify_payload_ready(self) -> None:
        """The payload has said that it is ready."""
        raise NotImplementedError

    @method(3)
    @abstractmethod
    def notify_payload_finished(self, exit_code: int) -> None:
        """The payload has ended with this exit code: 0 to 255."""
        raise NotImplementedError

    @method(4)
    @abstractmethod
    def notify_error(self, error_code: ErrorCode, message: str) -> None:
        """The payload could not be run, or a signal ended it. Of `message`, 4096 characters are kept."""
        raise NotImplementedError

    @method(0x00A00001)
    @abstractmethod
    def get_time(self) -> Long:
        """Not in the original. The host's CLOCK_REALTIME, in nanoseconds since 1970."""
        raise NotImplementedError

    @method(0x00A00002)
    @abstractmethod
    def get_instance_generation(self, instance_id: bytes) -> Long:
        """Not in the original. The highest generation that the host has seen of an instance, 0 if it has seen none: an
        image of an earlier one is an old image that was put back.

        `instance_id`: 32 bytes, of one instance for each VM, and before notify_payload_started only, else
        ILLEGAL_STATE. UNSUPPORTED_OPERATION where the host keeps no generations.
        """
        raise NotImplementedError

    @method(0x00A00003)
    @abstractmethod
    def raise_instance_generation(self, instance_id: bytes, generation: Long) -> None:
        """Not in the original. Has the host remember a generation, which takes the place of lower ones alone."""
        raise NotImplementedError

    @method(0x00A00004, oneway=True)
    @abstractmethod
    def report_start_phases(
        self,
        names: list[str],
        end_nanos: list[Long],
        began_nanos: Long,
        answered_nanos: Long,
        sent_nanos: Long,
    ) -> None:
        """Not in the original. When the phases of the guest's start ended, by the guest's CLOCK_MONOTONIC, in
        nanoseconds; each began where the one before it ended, the first one at `began_nanos`. Once, before
        notify_payload_started, and never refused: what cannot be is left out of the VM's timeline.

        `names`: lower case letters, digits, spaces and hyphens, 24 at most; 32 names at most. `answered_nanos`: when
        the guest had the last answer to get_time, 0 if it has not asked; `sent_nanos`: when it sent this. Between the
        two the host can tell how the guest's clock stands to its own.
        """
        raise NotImplementedError


from avf.aidl.virtualizationcommon import ErrorCode  # noqa: E402
