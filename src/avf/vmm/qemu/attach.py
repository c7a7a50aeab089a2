"""Gives a QEMU that runs already what others have from their command line: disks, and where its ports write to."""

from collections.abc import Awaitable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from avf.disk import Node, QemuDisk, qemu_disk
from avf.vmm.base import NotSupported, VmmControlError, VmSpec
from avf.vmm.outlets import Outlet, open_outlet
from avf.vmm.qemu import devices
from avf.vmm.qemu.command import Inputs, clone_devices, dumps_on_panic

_DRIVE_ADDED = "OK"


class Execute(Protocol):
    """Runs a QMP command, sending `fd` along. Raises VmmControlError."""

    def __call__(
        self, command: str, arguments: dict[str, object] | None = None, fd: int | None = None
    ) -> Awaitable[object]: ...


@dataclass(frozen=True, slots=True)
class Belongings:
    """All that makes a clone one certain VM, open until it has it."""

    outlets: Mapping[str, Outlet]
    """By the name of the port's character device."""
    disks: tuple[QemuDisk, ...]
    devices: tuple[devices.Device, ...]
    pause_on_panic: bool


def open_belongings(spec: VmSpec, inputs: Inputs, stack: ExitStack) -> Belongings:
    """Opens what `spec` names, for a QEMU that was started with `inputs`, the first disks of `spec` among them. What is
    opened belongs to `stack`.

    Raises NotSupported, VmmStartError or DiskError.
    """
    outlets = {
        "ttyS0": open_outlet(spec.console, "console", stack),
        "ttyS1": open_outlet(spec.failure, "failure", stack),
        devices.CONSOLE: open_outlet(spec.console, "console", stack),
        "hvc1": open_outlet(spec.ramdump, "ramdump", stack),
        "hvc2": open_outlet(spec.log, "log", stack),
    }
    for name, outlet in outlets.items():
        if outlet.is_socket:
            raise NotSupported(f"{name} leads to a socket, which it can only from the beginning")
    there = len(inputs.disks)
    disks = tuple(
        qemu_disk(disk, f"disk{index}", stack)
        for index, disk in enumerate(spec.disks)
        if index >= there
    )
    wanted = clone_devices(spec, replace(inputs, disks=(*inputs.disks, *disks)))
    return Belongings(outlets, disks, tuple(wanted[there:]), dumps_on_panic(spec))


async def attach(execute: Execute, belongings: Belongings) -> None:
    """Hands everything over to a guest that stands still, and lets it run. Raises VmmControlError.

    QEMU changes where the virtio consoles write to only while the guest runs.
    """
    for disk in belongings.disks:
        await _add_disk(execute, disk)
    for device in belongings.devices:
        await execute("device_add", dict(device))
    if belongings.pause_on_panic:
        await execute("set-action", {"panic": "pause"})
    await execute("cont")
    for name, outlet in belongings.outlets.items():
        if outlet.fd is not None:
            await _add_fd(execute, outlet.fd)
            backend = devices.output_backend(outlet.fd)
            await execute("chardev-change", {"id": name, "backend": backend})


async def _add_disk(execute: Execute, disk: QemuDisk) -> None:
    for fd in disk.fds:
        await _add_fd(execute, fd)
    for node in disk.blockdevs:
        await execute("blockdev-add", dict(node))
    if disk.drive is not None:
        await add_drive(execute, disk, disk.drive)


async def add_drive(execute: Execute, disk: QemuDisk, node: Node) -> None:
    """Makes a drive of that name; what makes one is no QMP command. Raises VmmControlError."""
    line = f"drive_add 0 {devices.drive_options(disk, node)}"
    answer = await execute("human-monitor-command", {"command-line": line})
    if not isinstance(answer, str) or answer.strip() != _DRIVE_ADDED:
        raise VmmControlError(f"QEMU cannot open {disk.name}: {answer!s:.500}")


async def _add_fd(execute: Execute, fd: int) -> None:
    """Makes it known under its own number, as the command line does."""
    await execute("add-fd", {"fdset-id": fd}, fd)
