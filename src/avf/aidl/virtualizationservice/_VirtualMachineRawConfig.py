# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/VirtualMachineRawConfig.aidl

"""AIDL parcelable android.system.virtualizationservice.VirtualMachineRawConfig."""

from __future__ import annotations

from avf.binder import Parcelable, ParcelFileDescriptor, field

__all__ = ["VirtualMachineRawConfig"]


class VirtualMachineRawConfig(
    Parcelable, descriptor="android.system.virtualizationservice.VirtualMachineRawConfig"
):
    """A VM described part by part."""

    name: str = ""
    kernel: ParcelFileDescriptor | None = None
    initrd: ParcelFileDescriptor | None = None
    params: str | None = None
    bootloader: ParcelFileDescriptor | None = None
    disks: list[DiskImage] = []
    protected_vm: bool = False
    memory_mib: int = 0
    cpu_topology: CpuTopology = field(factory=lambda: CpuTopology.ONE_CPU)
    platform_version: str = ""
    task_profiles: list[str] = []
    gdb_port: int = 0
    """As of April 2023; 0 is off."""
    wait_for_debugger: bool = False
    """Not in the original: the guest waits for a debugger at the socket gdb.sock in the VM's directory. It also does
    with a gdb_port.
    """


from ._CpuTopology import CpuTopology  # noqa: E402
from ._DiskImage import DiskImage  # noqa: E402
