"""Package android.system.virtualizationservice: what a client asks of virtmgr."""

# Written by avf-aidl from .aidl files: change those and run it again.

from avf.aidl.virtualizationcommon import DeathReason, ErrorCode
from avf.binder import (
    Enum,
    IBinder,
    Interface,
    Long,
    Parcelable,
    ParcelFileDescriptor,
    Union,
    method,
)

__all__ = [
    "CpuTopology",
    "DebugLevel",
    "DiskImage",
    "IVirtualMachine",
    "IVirtualMachineCallback",
    "IVirtualizationService",
    "MemoryTrimLevel",
    "Partition",
    "PartitionType",
    "Payload",
    "VirtualMachineAppConfig",
    "VirtualMachineConfig",
    "VirtualMachineDebugInfo",
    "VirtualMachinePayloadConfig",
    "VirtualMachineRawConfig",
    "VirtualMachineState",
]


class CpuTopology(Enum, backing="byte"):
    """How many CPUs a VM gets."""

    ONE_CPU = 0
    MATCH_HOST = 1


class MemoryTrimLevel(Enum):
    """How short of memory the owner of a VM is."""

    TRIM_MEMORY_RUNNING_CRITICAL = 0
    TRIM_MEMORY_RUNNING_LOW = 1
    TRIM_MEMORY_RUNNING_MODERATE = 2


class PartitionType(Enum):
    """What initialize_writable_partition puts into a partition."""

    RAW = 0
    ANDROID_VM_INSTANCE = 1
    ENCRYPTEDSTORE = 2


class DebugLevel(Enum, backing="byte"):
    """How much can be seen of the guest."""

    NONE = 0
    FULL = 1


class VirtualMachineState(Enum):
    """Where a VM is in its life. 5 was never given out again."""

    NOT_STARTED = 0
    STARTING = 1
    STARTED = 2
    READY = 3
    FINISHED = 4
    DEAD = 6


class Partition(Parcelable, descriptor="android.system.virtualizationservice.Partition"):
    """One partition of a disk put together from files. `image` is required."""

    label: str = ""
    image: ParcelFileDescriptor | None = None
    writable: bool = False


class DiskImage(Parcelable, descriptor="android.system.virtualizationservice.DiskImage"):
    """A disk: an image, or partitions, never both."""

    image: ParcelFileDescriptor | None = None
    writable: bool = False
    partitions: list[Partition] = []


class VirtualMachinePayloadConfig(
    Parcelable, descriptor="android.system.virtualizationservice.VirtualMachinePayloadConfig"
):
    """A payload named without a configuration file in its APK."""

    payload_binary_name: str = ""
    extra_apks: list[ParcelFileDescriptor] = []
    """As of 2024: APKs beside the main one, each with its idsig in VirtualMachineAppConfig's extra_idsigs."""


class Payload(
    Union, descriptor="android.system.virtualizationservice.VirtualMachineAppConfig.Payload"
):
    """What is run."""

    config_path: str
    """A configuration file in the APK."""
    payload_config: VirtualMachinePayloadConfig


class VirtualMachineAppConfig(
    Parcelable, descriptor="android.system.virtualizationservice.VirtualMachineAppConfig"
):
    """A VM that runs a payload from an APK. `apk`, `idsig` and `instance_image` are required; they are nullable here
    so that who leaves one out is told which.
    """

    name: str = ""
    apk: ParcelFileDescriptor | None = None
    idsig: ParcelFileDescriptor | None = None
    extra_idsigs: list[ParcelFileDescriptor] = []
    instance_image: ParcelFileDescriptor | None = None
    encrypted_storage_image: ParcelFileDescriptor | None = None
    payload: Payload = Payload(config_path="")
    debug_level: DebugLevel = DebugLevel.NONE
    protected_vm: bool = False
    memory_mib: int = 0
    cpu_topology: CpuTopology = CpuTopology.ONE_CPU
    task_profiles: list[str] = []
    gdb_port: int = 0
    """Not in the original; 0 is off."""
    wait_for_debugger: bool = False
    """Not in the original: the guest waits for a debugger at the socket gdb.sock in the VM's directory. It also does
    with a gdb_port.
    """


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
    cpu_topology: CpuTopology = CpuTopology.ONE_CPU
    platform_version: str = ""
    task_profiles: list[str] = []
    gdb_port: int = 0
    """As of April 2023; 0 is off."""
    wait_for_debugger: bool = False
    """Not in the original: the guest waits for a debugger at the socket gdb.sock in the VM's directory. It also does
    with a gdb_port.
    """


class VirtualMachineConfig(
    Union, descriptor="android.system.virtualizationservice.VirtualMachineConfig"
):
    """What create_vm is asked to make."""

    app_config: VirtualMachineAppConfig
    raw_config: VirtualMachineRawConfig


class VirtualMachineDebugInfo(
    Parcelable, descriptor="android.system.virtualizationservice.VirtualMachineDebugInfo"
):
    """One line of debug_list_vms."""

    cid: int = 0
    temporary_directory: str = ""
    requester_uid: int = 0
    requester_pid: int = 0


class IVirtualMachineCallback(
    Interface, descriptor="android.system.virtualizationservice.IVirtualMachineCallback"
):
    """Told of what happens to one VM; every method is oneway."""

    @method(1, oneway=True)
    def on_payload_started(self, cid: int) -> None: ...

    @method(2, oneway=True)
    def on_payload_ready(self, cid: int) -> None: ...

    @method(3, oneway=True)
    def on_payload_finished(self, cid: int, exit_code: int) -> None: ...

    @method(4, oneway=True)
    def on_error(self, cid: int, error_code: ErrorCode, message: str) -> None: ...

    @method(5, oneway=True)
    def on_died(self, cid: int, reason: DeathReason) -> None: ...


class IVirtualMachine(Interface, descriptor="android.system.virtualizationservice.IVirtualMachine"):
    """One VM. Who holds the last reference and lets go of it kills the VM."""

    @method(1)
    def get_cid(self) -> int:
        """The CID under which the guest is reached over vsock."""
        raise NotImplementedError

    @method(2)
    def get_state(self) -> VirtualMachineState:
        raise NotImplementedError

    @method(3)
    def register_callback(self, callback: IVirtualMachineCallback) -> None:
        """Adds to whom is told; past events are not told again."""
        raise NotImplementedError

    @method(4)
    def start(self) -> None:
        """Starts the VM; returns when the VMM runs. Service-specific error -1 if it was started before."""
        raise NotImplementedError

    @method(5)
    def stop(self) -> None:
        """Kills the VM; returns when all of it is gone. Service-specific error -1 if it is not running."""
        raise NotImplementedError

    @method(6)
    def on_trim_memory(self, level: MemoryTrimLevel) -> None:
        """Takes memory back from the guest by the balloon."""
        raise NotImplementedError

    @method(7)
    def connect_vsock(self, port: int) -> ParcelFileDescriptor:
        """A stream to `port` (unsigned 32 bit, from 1024 on) of the running guest."""
        raise NotImplementedError

    @method(0x00A00001)
    def get_control(self) -> IBinder:
        """Not in the original: the org.avf.linux.control.IVmControl of this VM."""
        raise NotImplementedError


class IVirtualizationService(
    Interface, descriptor="android.system.virtualizationservice.IVirtualizationService"
):
    """The root object of virtmgr."""

    @method(1)
    def create_vm(
        self,
        config: VirtualMachineConfig,
        console_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        """Makes a VM without starting it."""
        raise NotImplementedError

    @method(2)
    def initialize_writable_partition(
        self, image_fd: ParcelFileDescriptor, size_bytes: Long, type: PartitionType
    ) -> None:
        """Empties `image_fd` and makes it a partition image of at least `size_bytes`."""
        raise NotImplementedError

    @method(3)
    def create_or_update_idsig_file(
        self, input_fd: ParcelFileDescriptor, idsig_fd: ParcelFileDescriptor
    ) -> None:
        """Brings the idsig (APK Signature Scheme v4) of an APK up to date."""
        raise NotImplementedError

    @method(4)
    def debug_list_vms(self) -> list[VirtualMachineDebugInfo]:
        """The VMs of all clients on this host."""
        raise NotImplementedError

    @method(0x00A00001)
    def create_vm_with_input(
        self,
        config: VirtualMachineConfig,
        console_out_fd: ParcelFileDescriptor | None,
        console_in_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        """Not in the original of 2023; create_vm of 2024, under another code so that create_vm keeps its form. What
        can be read from `console_in_fd` is typed into the guest's console.
        """
        raise NotImplementedError

    @method(0x00A00002)
    def forget_instance(self, instance_image: ParcelFileDescriptor) -> None:
        """Not in the original. Has the host forget the instance whose image this is: an old copy of it is taken from
        then on. For an instance that is deleted, or is meant to go back. Nothing if the host knows nothing of it.
        """
        raise NotImplementedError
