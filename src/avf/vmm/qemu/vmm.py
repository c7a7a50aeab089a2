"""Starts QEMU."""

import os
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from avf import settings
from avf.causes import words
from avf.confine import (
    ConfinementError,
    SpawnError,
    explain_confinement,
    image_folder,
    spawn,
)
from avf.disk import DiskError, qemu_disk
from avf.vmm.accel import Acceleration, Accelerator, acceleration_for
from avf.vmm.base import Machine, VmmStartError, VmmUnavailable, VmSpec
from avf.vmm.images import open_firmware, open_image
from avf.vmm.outlets import open_outlet
from avf.vmm.qemu.box import qemu_box
from avf.vmm.qemu.command import (
    DEFAULT_MEMORY_MIB,
    MAX_DISKS,
    Host,
    Inputs,
    qemu_command,
)
from avf.vmm.qemu.panic import PanicDump
from avf.vmm.qemu.process import QemuProcess
from avf.vmm.tsc import tsc_khz
from avf.vmm.vsock_device import VsockDevice, start_vsock_device
from avf.vsock import HybridVsock, KernelVsock

PROGRAM = "qemu-system-x86_64"
_VHOST = "/dev/vhost-vsock"


def find_qemu(program: str | None = None) -> str:
    """The absolute path of QEMU: `program`, else `$AVF_QEMU`, else qemu-system-x86_64. Raises VmmUnavailable."""
    wanted = program or settings.qemu() or PROGRAM
    found = shutil.which(wanted)
    if found is None:
        raise VmmUnavailable(f"{wanted} is not installed (Debian package qemu-system-x86)")
    return str(Path(found).absolute())


def qemu_version(program: str | None = None) -> str:
    """What `--version` says in its first line. Raises VmmUnavailable."""
    import subprocess

    path = find_qemu(program)
    try:
        result = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise VmmUnavailable(f"{path} does not run: {words(error)}") from error
    return result.stdout.partition("\n")[0]


class Qemu:
    """A Vmm: QEMU for x86_64, on microvm or q35. Task profiles mean nothing to it."""

    name = "qemu"
    supports_protected = False

    def __init__(
        self, program: str | None = None, acceleration: Acceleration | None = None
    ) -> None:
        """`acceleration` None: what acceleration_for finds for each VM."""
        self._program = program
        self._acceleration = acceleration

    def emulates(self, kernel: int | None) -> bool:
        found = self._acceleration or acceleration_for(find_qemu(self._program), kernel)
        return found.accelerator is Accelerator.TCG

    def start(self, spec: VmSpec, on_event: Callable[[str], None] | None = None) -> QemuProcess:
        """See Vmm.start. `on_event` is called in the thread that watches the VM."""
        program = find_qemu(self._program)
        _check(spec)
        host = self._host(spec, program)
        try:
            with ExitStack() as stack:
                return _Start(spec, stack).run(program, host, on_event)
        except (DiskError, SpawnError) as error:
            raise VmmStartError(str(error)) from error
        except ConfinementError as error:
            raise VmmUnavailable(str(error)) from error
        except (OSError, RuntimeError) as error:  # the latter: no thread can be started
            raise VmmStartError(f"cannot start QEMU: {words(error)}") from error

    def _host(self, spec: VmSpec, program: str) -> Host:
        acceleration = self._acceleration or acceleration_for(program, spec.kernel)
        emulated = acceleration.accelerator is Accelerator.TCG
        return Host(
            acceleration.accelerator,
            os.sysconf("SC_NPROCESSORS_CONF"),
            tsc_khz() if emulated and spec.machine is Machine.FAST else None,
            acceleration.processor,
        )


def _check(spec: VmSpec) -> None:
    if spec.protected:
        raise VmmUnavailable("QEMU runs no protected VMs")
    if spec.kernel is None and spec.bootloader is None:
        raise VmmStartError("neither a kernel nor a bootloader is given")
    if len(spec.disks) > MAX_DISKS[Machine.PCI]:
        raise VmmStartError(f"{len(spec.disks)} disks; QEMU takes {MAX_DISKS[Machine.PCI]}")


@dataclass(frozen=True, slots=True)
class _Vsock:
    """What carries the guest's vsock: the kernel's device, or one end of a socket to a device process."""

    vhost: int | None = None
    control: int | None = None
    device: VsockDevice | None = None


class _Start:
    """One start: everything opened lives in `stack` and is closed when the children have it."""

    def __init__(self, spec: VmSpec, stack: ExitStack) -> None:
        self._spec = spec
        self._stack = stack

    def run(self, program: str, host: Host, on_event: Callable[[str], None] | None) -> QemuProcess:
        spec = self._spec
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            self._stack.callback(theirs.close)
            stderr, stderr_write = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, stderr)
            self._stack.callback(os.close, stderr_write)
            os.set_blocking(stderr, False)
            vsock = self._vsock(stderr_write, undo)
            dump = self._panic_dump(undo)
            inputs = self._inputs(theirs.fileno(), vsock)
            command = qemu_command(program, spec, inputs, host)
            console = inputs.console[1]
            box = qemu_box(program, spec, inputs, host.accelerator)
            qemu = spawn(command, fds=inputs.fds, stderr=stderr_write, box=box)
            undo.callback(qemu.abort)
            memory = (spec.memory_mib or DEFAULT_MEMORY_MIB) << 20
            process = QemuProcess(
                qemu,
                vsock.device,
                ours,
                stderr,
                memory,
                console=console,
                frozen=spec.gdb_listener is not None,
                on_event=on_event,
                panic_dump=dump,
                confinement=str(explain_confinement()),
            )
            undo.pop_all()
            return process

    def _panic_dump(self, undo: ExitStack) -> PanicDump | None:
        if self._spec.panic_dump is None:
            return None
        dump = PanicDump(self._spec.panic_dump, self._spec.panic_dump_limit)
        undo.callback(dump.close)
        return dump

    def _inputs(self, monitor: int, vsock: "_Vsock") -> Inputs:
        spec, stack = self._spec, self._stack
        return Inputs(
            monitor=monitor,
            console=(
                open_outlet(spec.console, "console", stack, copy=spec.console_copy),
                open_outlet(spec.console, "console", stack, copy=spec.console_copy),
            ),
            failure=open_outlet(spec.failure, "failure", stack),
            ramdump=open_outlet(spec.ramdump, "ramdump", stack),
            log=open_outlet(spec.log, "log", stack, copy=spec.log_copy),
            disks=tuple(
                qemu_disk(disk, f"disk{index}", stack) for index, disk in enumerate(spec.disks)
            ),
            kernel=open_image(spec.kernel, "kernel", stack) if spec.kernel is not None else None,
            initrd=open_image(spec.initrd, "initrd", stack) if spec.initrd is not None else None,
            firmware=open_firmware(spec.bootloader, stack) if spec.bootloader is not None else None,
            vhost=vsock.vhost,
            vsock_control=vsock.control,
            image_folder=image_folder(),
            debugger=spec.gdb_listener,
        )

    def _vsock(self, stderr: int, undo: ExitStack) -> "_Vsock":
        vsock = self._spec.vsock
        if isinstance(vsock, KernelVsock):
            return _Vsock(vhost=self._open_vhost())
        if not isinstance(vsock, HybridVsock):
            raise VmmUnavailable(f"QEMU cannot use {type(vsock).__name__}")
        qemu_end, device_end = socket.socketpair()
        self._stack.callback(qemu_end.close)
        with device_end:
            device = start_vsock_device(self._spec.cid, vsock, device_end.fileno(), stderr, undo)
        return _Vsock(control=qemu_end.fileno(), device=device)

    def _open_vhost(self) -> int:
        try:
            fd = os.open(_VHOST, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise VmmUnavailable(f"{_VHOST} cannot be opened: {error.strerror}") from error
        self._stack.callback(os.close, fd)
        return fd
