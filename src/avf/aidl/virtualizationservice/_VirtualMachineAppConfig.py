# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/VirtualMachineAppConfig.aidl

"""AIDL parcelable android.system.virtualizationservice.VirtualMachineAppConfig."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from avf.binder import Enum, Parcelable, ParcelFileDescriptor, Union, field

__all__ = ["VirtualMachineAppConfig"]


class VirtualMachineAppConfig(
    Parcelable, descriptor="android.system.virtualizationservice.VirtualMachineAppConfig"
):
    """A VM that runs a payload from an APK. `apk`, `idsig` and, unless it is `forkable`, `instance_image` are
    required; they are nullable here so that who leaves one out is told which.
    """

    class DebugLevel(Enum, backing="byte"):
        """How much can be seen of the guest."""

        NONE = 0
        FULL = 1

    class Payload(
        Union, descriptor="android.system.virtualizationservice.VirtualMachineAppConfig.Payload"
    ):
        """What is run."""

        class Tag(Enum):
            configPath = 0
            payloadConfig = 1

        config_path: str
        """A configuration file in the APK."""
        payload_config: VirtualMachinePayloadConfig

        if TYPE_CHECKING:

            @overload
            def __init__(self, *, config_path: str) -> None: ...

            @overload
            def __init__(self, *, payload_config: VirtualMachinePayloadConfig) -> None: ...

            def __init__(self, **member: object) -> None: ...

    name: str = ""
    apk: ParcelFileDescriptor | None = None
    idsig: ParcelFileDescriptor | None = None
    extra_idsigs: list[ParcelFileDescriptor] = []
    instance_image: ParcelFileDescriptor | None = None
    encrypted_storage_image: ParcelFileDescriptor | None = None
    payload: VirtualMachineAppConfig.Payload = field(
        factory=lambda: VirtualMachineAppConfig.Payload(config_path="")
    )
    debug_level: VirtualMachineAppConfig.DebugLevel = field(
        factory=lambda: VirtualMachineAppConfig.DebugLevel.NONE
    )
    protected_vm: bool = False
    memory_mib: int = 0
    cpu_topology: CpuTopology = field(factory=lambda: CpuTopology.ONE_CPU)
    task_profiles: list[str] = []
    gdb_port: int = 0
    """Not in the original; 0 is off."""
    wait_for_debugger: bool = False
    """Not in the original: the guest waits for a debugger at the socket gdb.sock in the VM's directory. It also does
    with a gdb_port.
    """
    fresh: bool = False
    """Not in the original: the guest boots by itself, and is no clone of a template."""
    forkable: bool = False
    """Not in the original: the running VM may be copied, see IVmControl.fork. Such a VM keeps nothing:
    instance_image and encrypted_storage_image must be null.
    """


from ._CpuTopology import CpuTopology  # noqa: E402
from ._VirtualMachinePayloadConfig import VirtualMachinePayloadConfig  # noqa: E402
