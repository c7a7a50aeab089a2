"""A VM's configuration inside virtmgr: both public forms end as this one."""

from dataclasses import dataclass, field

from avf.aidl.virtualizationservice import CpuTopology, DiskImage, VirtualMachineRawConfig
from avf.disk import Disk, ImageDisk, Partition, PartitionedDisk
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.fds import Fds
from avf.virtmgr.version_req import Version
from avf.vmm import Machine

PLATFORM_VERSION = Version(1, 0, 0)


@dataclass(slots=True)
class DiskConfig:
    """A disk as asked for; exactly one of image and partitions is right."""

    image: int | None = None
    writable: bool = False
    partitions: list[Partition] = field(default_factory=list)

    def assemble(self) -> Disk:
        """Raises ValueError, in AVF's words, for neither or both."""
        if self.partitions:
            if self.image is not None:
                raise ValueError("DiskImage contains both image and partitions.")
            return PartitionedDisk(tuple(self.partitions), self.writable)
        if self.image is None:
            raise ValueError("DiskImage didn't contain image or partitions.")
        return ImageDisk(self.image, self.writable)


@dataclass(slots=True)
class MachineConfig:
    """Descriptors are borrowed from the Fds they were cloned into."""

    name: str = ""
    kernel: int | None = None
    initrd: int | None = None
    bootloader: int | None = None
    params: str | None = None
    disks: list[DiskConfig] = field(default_factory=list)
    image_disks: int = 0
    """See VmSpec."""
    protected: bool = False
    memory_mib: int = 0
    cpu_topology: CpuTopology = CpuTopology.ONE_CPU
    platform_version: str = ""
    task_profiles: list[str] = field(default_factory=list)
    gdb_port: int = 0
    wait_for_debugger: bool = False
    machine: Machine = Machine.PCI
    templates: int = 0
    """The version of what the guest, as a template, and its host tell each other; 0: it cannot be one."""
    forks: int = 0
    """The same of a guest that is copied while it runs."""
    forkable: bool = False
    """Whether the running VM may be copied."""


def from_raw_config(config: VirtualMachineRawConfig, fds: Fds) -> MachineConfig:
    """Raises RemoteException if a descriptor cannot be cloned, VirtmgrError if one is missing or shows no file."""
    return MachineConfig(
        name=config.name,
        kernel=fds.clone_optional_file(config.kernel, "kernel"),
        initrd=fds.clone_optional_file(config.initrd, "initrd"),
        bootloader=fds.clone_optional_file(config.bootloader, "bootloader"),
        params=config.params,
        disks=[_disk(disk, f"disks[{i}]", fds) for i, disk in enumerate(config.disks)],
        protected=config.protected_vm,
        memory_mib=config.memory_mib,
        cpu_topology=config.cpu_topology,
        platform_version=config.platform_version,
        task_profiles=list(config.task_profiles),
        gdb_port=config.gdb_port,
        wait_for_debugger=config.wait_for_debugger or config.gdb_port > 0,
    )


def _disk(disk: DiskImage, where: str, fds: Fds) -> DiskConfig:
    partitions = []
    for partition in disk.partitions:
        if partition.image is None:
            raise VirtmgrError(
                f"Invalid partition image file descriptor (partition {partition.label!r})"
            )
        image = fds.clone_file(
            partition.image, f"{where}: the image of partition {partition.label!r}"
        )
        partitions.append(Partition(partition.label, image, partition.writable))
    whole = fds.clone_optional_file(disk.image, f"{where}.image")
    return DiskConfig(whole, disk.writable, partitions)
