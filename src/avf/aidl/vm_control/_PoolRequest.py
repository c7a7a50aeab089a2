# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/PoolRequest.aidl

"""AIDL parcelable org.avf.linux.control.PoolRequest."""

from __future__ import annotations

from avf.binder import Parcelable

__all__ = ["PoolRequest"]


class PoolRequest(Parcelable, descriptor="org.avf.linux.control.PoolRequest"):
    """How many clones are to wait for VMs, and for which VMs at first."""

    count: int = 0
    """0: none."""
    debug_level: int = 0
    """As of VirtualMachineAppConfig.DebugLevel."""
    memory_mib: int = 0
    """0: what the guest image asks for."""
    cpu_topology: int = 0
    """As of CpuTopology."""
