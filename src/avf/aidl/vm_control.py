"""Package org.avf.linux.control: what the owner of a VM, and root, can ask of it from outside. Not in the original."""

# Written by avf-aidl from .aidl files: change those and run it again.

from avf.aidl.virtualizationcommon import DeathReason
from avf.aidl.virtualizationservice import VirtualMachineState
from avf.binder import Enum, Interface, Long, Parcelable, ParcelFileDescriptor, method

__all__ = [
    "CONTROL_SOCKET_NAME",
    "DeathReport",
    "IVmControl",
    "PayloadState",
    "VmInfo",
    "VmMetrics",
]

CONTROL_SOCKET_NAME = "control.sock"
"""The unix socket in a VM's directory whose root object is the VM's IVmControl."""


class PayloadState(Enum):
    """How far a payload has come."""

    STARTING = 0
    STARTED = 1
    READY = 2
    FINISHED = 3
    HANGUP = 4


class DeathReport(Parcelable, descriptor="org.avf.linux.control.DeathReport"):
    """How a VM died, for people."""

    reason: DeathReason = DeathReason.UNKNOWN
    last_step: str = ""
    """The last thing known to have happened in its life."""
    vmm_status: int = 0
    """The VMM's exit status; negative: the signal that ended it."""
    vmm_events: list[str] = []
    vmm_stderr: str = ""
    """The end of it."""
    failure: str = ""
    """What the guest wrote to its failure port, including what follows the reason's name."""
    console_tail: list[str] = []
    """The last lines."""


class VmInfo(Parcelable, descriptor="org.avf.linux.control.VmInfo"):
    """What a VM is, and how far it has come."""

    cid: int = 0
    name: str = ""
    state: VirtualMachineState = VirtualMachineState.NOT_STARTED
    payload_state: PayloadState = PayloadState.STARTING
    vmm: str = ""
    vmm_pid: int = 0
    """0 unless the VM runs."""
    requester_uid: int = 0
    requester_pid: int = 0
    is_protected: bool = False
    memory_mib: int = 0
    """0: whatever the VMM gives."""
    num_cpus: int = 0
    """0: as many as the host has."""
    created_millis_ago: Long = 0
    started_millis_ago: Long = -1
    """-1: never started."""
    has_console: bool = False
    has_log: bool = False
    takes_console_input: bool = False
    debugger_socket: str = ""
    """The path of the socket at which the VM waits for a debugger; empty: it does not."""


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


class IVmControl(Interface, descriptor="org.avf.linux.control.IVmControl"):
    """One VM, seen from outside. Holding this is not holding the VM: it neither keeps it alive nor ends it."""

    @method(1)
    def get_info(self) -> VmInfo:
        raise NotImplementedError

    @method(2)
    def get_metrics(self) -> VmMetrics:
        raise NotImplementedError

    @method(3)
    def get_death_report(self) -> DeathReport | None:
        """Null while the VM has not died."""
        raise NotImplementedError

    @method(4)
    def stop(self) -> None:
        """Kills the VM; returns when all of it is gone. Service-specific error -1 if it is not running."""
        raise NotImplementedError

    @method(5)
    def attach_console(self, live: bool) -> ParcelFileDescriptor:
        """A stream socket: the last of what the console said, then, if `live`, what it goes on to say, until it ends.

        What is written to it goes to the console of a running guest that takes input. Service-specific error -1 if the
        VM has no console to show.
        """
        raise NotImplementedError

    @method(6)
    def follow_log(self, live: bool) -> ParcelFileDescriptor:
        """As attach_console, for the log, which takes no input."""
        raise NotImplementedError
