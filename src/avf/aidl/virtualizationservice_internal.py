"""Package android.system.virtualizationservice_internal: what virtmgr asks of virtualizationservice."""

# Written by avf-aidl from .aidl files: change those and run it again.

from avf.aidl.virtualizationcommon import DeathReason
from avf.aidl.virtualizationservice import VirtualMachineDebugInfo
from avf.binder import Interface, Long, Parcelable, method

__all__ = [
    "AtomVmBooted",
    "AtomVmCreationRequested",
    "AtomVmExited",
    "IGlobalVmContext",
    "IVirtualizationServiceInternal",
]


class AtomVmBooted(
    Parcelable, descriptor="android.system.virtualizationservice_internal.AtomVmBooted"
):
    """The payload of a VM has started."""

    uid: int = 0
    vm_identifier: str = ""
    elapsed_time_millis: Long = 0


class AtomVmCreationRequested(
    Parcelable, descriptor="android.system.virtualizationservice_internal.AtomVmCreationRequested"
):
    """create_vm was called, whether it succeeded or not."""

    uid: int = 0
    vm_identifier: str = ""
    is_protected: bool = False
    creation_succeeded: bool = False
    binder_exception_code: int = 0
    config_type: int = 0
    num_cpus: int = 0
    memory_mib: int = 0
    apexes: str = ""


class AtomVmExited(
    Parcelable, descriptor="android.system.virtualizationservice_internal.AtomVmExited"
):
    """A VM has died."""

    uid: int = 0
    vm_identifier: str = ""
    death_reason: DeathReason = DeathReason.INFRASTRUCTURE_ERROR
    exit_signal: int = 0
    elapsed_time_millis: Long = 0
    guest_time_millis: Long = 0
    rss_vm_kb: Long = 0
    rss_crosvm_kb: Long = 0


class IGlobalVmContext(
    Interface, descriptor="android.system.virtualizationservice_internal.IGlobalVmContext"
):
    """What one VM has that is unique on its host. The CID is reserved while the object lives."""

    @method(1)
    def get_cid(self) -> int:
        raise NotImplementedError

    @method(2)
    def get_temporary_directory(self) -> str:
        raise NotImplementedError


class IVirtualizationServiceInternal(
    Interface,
    descriptor="android.system.virtualizationservice_internal.IVirtualizationServiceInternal",
):
    """The root object of virtualizationservice."""

    @method(1)
    def remove_memlock_rlimit(self) -> None:
        """Lifts RLIMIT_MEMLOCK of the calling process."""
        raise NotImplementedError

    @method(2)
    def allocate_global_vm_context(self, requester_debug_pid: int) -> IGlobalVmContext:
        """Reserves a CID and makes a directory for a VM of the calling uid."""
        raise NotImplementedError

    @method(3)
    def atom_vm_booted(self, atom: AtomVmBooted) -> None:
        raise NotImplementedError

    @method(4)
    def atom_vm_creation_requested(self, atom: AtomVmCreationRequested) -> None:
        raise NotImplementedError

    @method(5)
    def atom_vm_exited(self, atom: AtomVmExited) -> None:
        raise NotImplementedError

    @method(6)
    def debug_list_vms(self) -> list[VirtualMachineDebugInfo]:
        raise NotImplementedError

    @method(0x00A00001)
    def get_instance_generation(self, instance_id: bytes) -> Long:
        """Not in the original. The highest generation raised for an instance of the calling user, 0 if there was none.

        `instance_id`: 32 bytes. UNSUPPORTED_OPERATION if this service keeps no generations.
        """
        raise NotImplementedError

    @method(0x00A00002)
    def raise_instance_generation(self, instance_id: bytes, generation: Long) -> None:
        """Not in the original. Remembers a generation (from 1 on), on disk, unless a higher one is remembered."""
        raise NotImplementedError

    @method(0x00A00003)
    def forget_instance_generation(self, instance_id: bytes) -> None:
        """Not in the original. Forgets what is remembered of an instance of the calling user, if anything is."""
        raise NotImplementedError
