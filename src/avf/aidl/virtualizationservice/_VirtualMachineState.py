# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/VirtualMachineState.aidl

"""AIDL enum android.system.virtualizationservice.VirtualMachineState."""

from __future__ import annotations

from avf.binder import Enum

__all__ = ["VirtualMachineState"]


class VirtualMachineState(Enum):
    """Where a VM is in its life. 5 was never given out again."""

    NOT_STARTED = 0
    STARTING = 1
    STARTED = 2
    READY = 3
    FINISHED = 4
    DEAD = 6
