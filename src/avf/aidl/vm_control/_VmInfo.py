# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/VmInfo.aidl

"""AIDL parcelable org.avf.linux.control.VmInfo."""

from __future__ import annotations

from avf.binder import Long, Parcelable, field

__all__ = ["VmInfo"]


class VmInfo(Parcelable, descriptor="org.avf.linux.control.VmInfo"):
    """What a VM is, and how far it has come."""

    cid: int = 0
    name: str = ""
    state: VirtualMachineState = field(factory=lambda: VirtualMachineState.NOT_STARTED)
    payload_state: PayloadState = field(factory=lambda: PayloadState.STARTING)
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


from avf.aidl.virtualizationservice import VirtualMachineState  # noqa: E402

from ._PayloadState import PayloadState  # noqa: E402
