"""What a VM is made of, for those who look at it: noted while its files are open."""

import os
from collections.abc import Iterator
from pathlib import Path

from avf.aidl.virtualizationservice import VirtualMachineAppConfig, VirtualMachineConfig
from avf.aidl.vm_control import VmFile, VmParts
from avf.virtmgr.config import MachineConfig
from avf.virtmgr.invocation import Invocation

MAX_FILES = 256
"""How many are told; more are left out."""
_IN_MEMORY = "/memfd:"


def noted_parts(
    config: VirtualMachineConfig, machine: MachineConfig, invocation: Invocation | None
) -> VmParts:
    """Raises OSError."""
    called = invocation or Invocation()
    files = [_file(*found) for found, _ in zip(_files(machine), range(MAX_FILES), strict=False)]
    parts = VmParts(
        arguments=list(called.arguments), variables=sorted(called.environment), files=files
    )
    if config.which == "app_config":
        app = config.app_config
        parts.is_app = True
        parts.is_debuggable = app.debug_level != VirtualMachineAppConfig.DebugLevel.NONE
        parts.payload = (
            app.payload.payload_config.payload_binary_name
            if app.payload.which == "payload_config"
            else app.payload.config_path
        )
    return parts


def _files(machine: MachineConfig) -> Iterator[tuple[str, int, int, bool]]:
    """Label, disk, descriptor, and whether the guest can write it."""
    for label, fd in (
        ("kernel", machine.kernel),
        ("initrd", machine.initrd),
        ("bootloader", machine.bootloader),
    ):
        if fd is not None:
            yield label, -1, fd, False
    for number, disk in enumerate(machine.disks):
        if disk.image is not None:
            yield "disk", number, disk.image, disk.writable
        for partition in disk.partitions:
            yield partition.label, number, partition.fd, disk.writable and partition.writable


def _file(label: str, disk: int, fd: int, writable: bool) -> VmFile:
    status = os.fstat(fd)
    path = str(Path(f"/proc/self/fd/{fd}").readlink())
    return VmFile(
        label=label,
        disk=disk,
        path="" if path.startswith(_IN_MEMORY) else _text(path),
        size=status.st_size,
        is_writable=writable,
        device=_signed(status.st_dev),
        inode=_signed(status.st_ino),
        modified_nanos=status.st_mtime_ns,
    )


def _text(path: str) -> str:
    """A path that is no UTF-8 cannot be told as it is."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _signed(number: int) -> int:
    """As a long has it."""
    return number - (1 << 64) if number >> 63 else number
