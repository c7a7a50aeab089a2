"""From an APK and its companions to a VM that runs it: the guest image, the instance disk, the payload disk."""

import os
from pathlib import Path

from avf.aidl.virtualizationservice import VirtualMachineAppConfig
from avf.aidl.vm_control import Refusal
from avf.apk import ApkError, read_entry
from avf.disk import Partition
from avf.runtime import image_dirs
from avf.virtmgr import payload_config
from avf.virtmgr.config import DiskConfig, MachineConfig
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.fds import Fds
from avf.virtmgr.invocation import Invocation
from avf.virtmgr.opening import open_regular
from avf.virtmgr.payload_config import PayloadConfigError, VmPayloadConfig
from avf.virtmgr.payload_disk import payload_disk
from avf.vmconfig import VmConfig, VmConfigError
from avf.vmm import Machine

OS_NAME = "microdroid"
FORKS = 2
"""The version of what a guest that is copied and its host tell each other, as far as it is known here."""
IMAGE_CONFIG = "microdroid.json"
_MIB = 1 << 20
_SYSTEM_MIB = 56
"""What a guest needs beside its kernel and its files, seen by trying."""
_INITRDS = {
    VirtualMachineAppConfig.DebugLevel.NONE: "microdroid_initrd_normal.img",
    VirtualMachineAppConfig.DebugLevel.FULL: "microdroid_initrd_debuggable.img",
}


def load_app_config(
    config: VirtualMachineAppConfig, fds: Fds, invocation: Invocation | None = None
) -> MachineConfig:
    """Lowers an app configuration. Raises VirtmgrError with its causes, or RemoteException for bad descriptors."""
    if config.apk is None or config.idsig is None:
        raise VirtmgrError(f"{'apk' if config.apk is None else 'idsig'} is missing")
    _check_state(config)
    apk = fds.clone_file(config.apk, "apk")
    idsig = fds.clone_file(config.idsig, "idsig")
    instance = fds.clone_optional_file(config.instance_image, "instanceImage")
    storage = fds.clone_optional_file(config.encrypted_storage_image, "encryptedStorageImage")
    payload = load_payload_config(apk, config.payload)
    if payload.os.name != OS_NAME:
        raise VirtmgrError(f'Unknown OS "{payload.os.name}"')
    machine = image_machine(config.debug_level, fds)
    machine.name = config.name
    machine.protected = config.protected_vm
    machine.cpu_topology = config.cpu_topology
    machine.task_profiles = list(config.task_profiles)
    machine.gdb_port = config.gdb_port
    machine.wait_for_debugger = config.wait_for_debugger or config.gdb_port > 0
    if config.memory_mib > 0:
        machine.memory_mib = config.memory_mib
        require_memory(machine)
    machine.forkable = config.forkable
    if config.forkable:
        _check_forks(machine)
    if instance is not None:
        machine.disks.append(_instance_disk(instance, storage))
    extra_idsigs = [
        fds.clone_file(file, f"extraIdsigs[{i}]") for i, file in enumerate(config.extra_idsigs)
    ]
    machine.disks.append(
        payload_disk(
            apk,
            idsig,
            extra_idsigs,
            config.payload,
            payload,
            fds,
            debuggable=config.debug_level != VirtualMachineAppConfig.DebugLevel.NONE,
            invocation=invocation,
            forkable=config.forkable,
        )
    )
    return machine


def _check_state(config: VirtualMachineAppConfig) -> None:
    """Two VMs cannot share an instance or storage, and so neither is there where one VM may become two.

    Raises VirtmgrError.
    """
    if not config.forkable:
        if config.instance_image is None:
            raise VirtmgrError("instanceImage is missing")
        return
    for name, image in (
        ("instanceImage", config.instance_image),
        ("encryptedStorageImage", config.encrypted_storage_image),
    ):
        if image is not None:
            raise VirtmgrError(f"forkable: such a VM keeps nothing, but {name} is given")


def _check_forks(machine: MachineConfig) -> None:
    """Raises VirtmgrError if the guest image cannot be that of a VM that may be copied."""
    if machine.forks != FORKS:
        raise VirtmgrError(
            "forkable: the guests of this image cannot be forked; build or install its present version"
        )
    if any(disk.writable for disk in machine.disks):
        raise VirtmgrError("forkable: the guest image has a disk that can be written to")


def require_memory(machine: MachineConfig) -> None:
    """Raises VirtmgrError if the guest's memory could not even hold kernel and initrd while they unpack.

    The initrd counts twice: as it was loaded, and as the file system that is made of it.
    """
    if machine.kernel is None or machine.initrd is None:
        return
    size = os.fstat(machine.kernel).st_size + 2 * os.fstat(machine.initrd).st_size
    minimum = -(-size // _MIB) + _SYSTEM_MIB
    if machine.memory_mib < minimum:
        raise VirtmgrError(
            f"memoryMib is {machine.memory_mib}, but this guest image needs at least {minimum}"
        )


def load_payload_config(apk: int, payload: VirtualMachineAppConfig.Payload) -> VmPayloadConfig:
    """What the payload's configuration file says, or what it would say. Raises VirtmgrError."""
    if payload.which == "payload_config":
        try:
            return VmPayloadConfig.for_binary(payload.payload_config.payload_binary_name)
        except PayloadConfigError as e:
            raise VirtmgrError(str(e)) from None
    path = payload.config_path
    try:
        text = read_entry(apk, path, limit=payload_config.MAX_SIZE)
        return VmPayloadConfig.parse(text, path)
    except (ApkError, PayloadConfigError, OSError, KeyError) as e:
        raise VirtmgrError(f"Couldn't read config from {path}") from e


def image_machine(debug_level: VirtualMachineAppConfig.DebugLevel, fds: Fds) -> MachineConfig:
    """What the guest image alone says of a VM. Raises VirtmgrError."""
    if debug_level not in _INITRDS:
        raise VirtmgrError(f"unsupported debug level {int(debug_level)}")
    folder = find_image()
    try:
        config = VmConfig.load(folder / IMAGE_CONFIG)
    except VmConfigError as e:
        raise VirtmgrError("Failed to load the guest image", Refusal.NO_IMAGE) from e

    def opened(path: str, what: str, *, writable: bool = False) -> int:
        flags = os.O_RDWR if writable else os.O_RDONLY
        return fds.add(open_regular(folder / path, f"the guest image's {what}", flags))

    def optional(path: str | None, what: str, *, writable: bool = False) -> int | None:
        return None if path is None else opened(path, what, writable=writable)

    disks = []
    for disk in config.disks:
        partitions = [
            Partition(
                part.label,
                opened(part.path, f"partition {part.label!r}", writable=part.writable),
                part.writable,
            )
            for part in disk.partitions
        ]
        image = optional(disk.image, "disk", writable=disk.writable)
        disks.append(DiskConfig(image, disk.writable, partitions))
    params = config.params
    if debug_level != VirtualMachineAppConfig.DebugLevel.NONE:
        params = f"{params or ''} {config.x_avf.debuggable_params}".strip() or None
    return MachineConfig(
        kernel=optional(config.kernel, "kernel"),
        initrd=opened(_INITRDS[debug_level], "initrd"),
        bootloader=optional(config.bootloader, "bootloader"),
        params=params,
        disks=disks,
        image_disks=len(disks),
        memory_mib=config.memory_mib or 0,
        platform_version=config.platform_version,
        machine=Machine(config.x_avf.machine),
        templates=config.x_avf.templates,
        forks=config.x_avf.forks,
    )


def find_image() -> Path:
    """The folder of the guest image. Raises VirtmgrError."""
    folders = image_dirs()
    for folder in folders:
        if (folder / IMAGE_CONFIG).is_file():
            return folder
    where = " or ".join(map(str, folders))
    raise VirtmgrError(f"no guest image ({IMAGE_CONFIG}) in {where}", Refusal.NO_IMAGE)


def _instance_disk(instance: int, storage: int | None) -> DiskConfig:
    partitions = [Partition("vm-instance", instance, True)]
    if storage is not None:
        partitions.append(Partition("encryptedstore", storage, True))
    return DiskConfig(writable=True, partitions=partitions)
