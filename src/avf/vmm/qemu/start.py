"""One start of QEMU: cold, of a guest that becomes a template, or of a clone."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from avf.confine import Child, explain_confinement, image_folder, lent_folder, spawn
from avf.disk import QemuDisk, qemu_disk
from avf.vmm.base import VmmUnavailable, VmSpec
from avf.vmm.images import open_firmware, open_image
from avf.vmm.outlets import open_outlet
from avf.vmm.qemu.box import memory_number, qemu_box
from avf.vmm.qemu.command import (
    DEFAULT_MEMORY_MIB,
    Host,
    Inputs,
    added_devices,
    clone_command,
    qemu_command,
    template_command,
)
from avf.vmm.qemu.panic import PanicDump
from avf.vmm.qemu.process import QemuProcess
from avf.vmm.qemu.sharing import Sharing
from avf.vmm.qemu.unfold import UnfoldedTemplate
from avf.vmm.vsock_device import VsockDevice, start_vsock_device
from avf.vsock import HybridVsock, KernelVsock

if TYPE_CHECKING:
    from avf.vmm.qemu.clone import Clone
    from avf.vmm.qemu.fork import ForkSource

_VHOST = "/dev/vhost-vsock"


@dataclass(frozen=True, slots=True)
class _Vsock:
    """What carries the guest's vsock: the kernel's device, or one end of a socket to a device process."""

    vhost: int | None = None
    control: int | None = None
    device: VsockDevice | None = None


class Start:
    """One cold start: everything opened lives in a stack and is closed when the children have it."""

    def __init__(self, spec: VmSpec, on_event: Callable[[str], None] | None) -> None:
        self._spec = spec
        self._on_event = on_event
        self._stack = ExitStack()
        self._memory: int | None = None
        """The memory file that the guest's memory is, or begins as, if it does."""
        self._shares = False
        """Whether other VMs have that file, too."""

    def run(self, program: str, host: Host, stack: ExitStack) -> QemuProcess:
        spec = self._spec
        self._stack = stack
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            stack.callback(theirs.close)
            stderr, stderr_write = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, stderr)
            stack.callback(os.close, stderr_write)
            os.set_blocking(stderr, False)
            self._open_memory(stack)
            vsock = self._vsock(stderr_write, undo)
            dump = self._panic_dump(undo)
            inputs = self._inputs(theirs.fileno(), vsock, undo)
            command = self._command(program, inputs, host)
            console = inputs.console[1]
            box = qemu_box(program, spec, inputs, host.accelerator)
            qemu = spawn(command, fds=inputs.fds, stderr=stderr_write, box=box)
            undo.callback(qemu.abort)
            spec.ended("spawn")
            memory = (spec.memory_mib or DEFAULT_MEMORY_MIB) << 20
            clone = self._clone(inputs, qemu, vsock.device)
            if clone is not None:
                undo.callback(clone.close)
            forks = self._forks(inputs, host)
            if forks is not None:
                undo.callback(forks.close)
            process = QemuProcess(
                qemu,
                vsock.device,
                ours,
                stderr,
                memory,
                console=console,
                frozen=spec.gdb_listener is not None,
                on_event=self._on_event,
                panic_dump=dump,
                clone=clone,
                forks=forks,
                confinement=str(explain_confinement()),
                ended=spec.ended,
            )
            undo.pop_all()
            return process

    def _command(self, program: str, inputs: Inputs, host: Host) -> list[str]:
        return qemu_command(program, self._spec, inputs, host)

    def _clone(self, inputs: Inputs, qemu: Child, device: VsockDevice | None) -> "Clone | None":
        return None

    def _forks(self, inputs: Inputs, host: Host) -> "ForkSource | None":
        """What copying the running guest takes, if it can be copied."""
        return None

    def _new_memory(self) -> int | None:
        """A file that the guest's memory is, if it is one; the caller's."""
        return None

    def _open_memory(self, stack: ExitStack) -> None:
        memory = self._new_memory()
        if memory is not None:
            self._memory = memory
            stack.callback(os.close, memory)

    def _panic_dump(self, undo: ExitStack) -> PanicDump | None:
        if self._spec.panic_dump is None:
            return None
        dump = PanicDump(self._spec.panic_dump, self._spec.panic_dump_limit)
        undo.callback(dump.close)
        return dump

    def _inputs(self, monitor: int, vsock: "_Vsock", undo: ExitStack) -> Inputs:
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
            memory=self._memory,
            memory_is_own=not self._shares,
            lent_folder=lent_folder(),
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
            device = start_vsock_device(
                self._spec.cid,
                vsock,
                device_end.fileno(),
                stderr,
                undo,
                borrows=self._shares,
            )
        return _Vsock(control=qemu_end.fileno(), device=device)

    def _open_vhost(self) -> int:
        try:
            fd = os.open(_VHOST, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise VmmUnavailable(f"{_VHOST} cannot be opened: {error.strerror}") from error
        self._stack.callback(os.close, fd)
        return fd


class StartWithPort(Start):
    """The start of a machine with the port of a template."""

    port: socket.socket
    """The host's end."""

    def _inputs(self, monitor: int, vsock: "_Vsock", undo: ExitStack) -> Inputs:
        self.port, theirs = socket.socketpair()
        undo.callback(self.port.close)
        self._stack.callback(theirs.close)
        return replace(super()._inputs(monitor, vsock, undo), template=theirs.fileno())


class TemplateStart(StartWithPort):
    """The start of a guest that becomes a template."""

    disks: tuple[QemuDisk, ...]
    """Those of the guest's image."""

    def _inputs(self, monitor: int, vsock: "_Vsock", undo: ExitStack) -> Inputs:
        inputs = super()._inputs(monitor, vsock, undo)
        self.disks = inputs.disks
        return inputs

    def _command(self, program: str, inputs: Inputs, host: Host) -> list[str]:
        return template_command(program, self._spec, inputs, host)


class CloneStart(StartWithPort):
    """The start of a clone: kernel and initrd are in its memory already."""

    def __init__(
        self,
        spec: VmSpec,
        on_event: Callable[[str], None] | None,
        template: UnfoldedTemplate,
        *,
        shares: bool,
    ) -> None:
        """`template`: sealed if it `shares` that with other clones, else its own."""
        super().__init__(replace(spec, kernel=None, initrd=None), on_event)
        self._state = template.state
        self._memory = template.memory
        self._shares = shares
        self.sharing: Sharing | None = None

    def _command(self, program: str, inputs: Inputs, host: Host) -> list[str]:
        return clone_command(program, self._spec, inputs, host)

    def _clone(self, inputs: Inputs, qemu: Child, device: VsockDevice | None) -> "Clone":
        from avf.vmm.qemu.clone import Clone  # slow to import

        devices = added_devices(self._spec, inputs)
        self.sharing = self._share(inputs, qemu, device)
        return Clone(self._open_state(), self.port, devices, self._spec.ended, self.sharing)

    def _share(self, inputs: Inputs, qemu: Child, device: VsockDevice | None) -> Sharing:
        number = memory_number(inputs) if self._shares else None
        lender = device.lender if device is not None else None
        assert self._memory is not None
        return Sharing(qemu, self._memory, number, lender)

    def _open_state(self) -> int:
        """Opened anew, so that each clone reads it from its start."""
        return os.open(f"/proc/self/fd/{self._state}", os.O_RDONLY | os.O_CLOEXEC)


class WaitingStart(CloneStart):
    """The start of a clone of which it is not known yet whose it will be."""

    def __init__(self, spec: VmSpec, template: UnfoldedTemplate, *, shares: bool) -> None:
        super().__init__(spec, None, template, shares=shares)

    def _clone(self, inputs: Inputs, qemu: Child, device: VsockDevice | None) -> "Clone":
        from avf.vmm.qemu.waiting_clone import WaitingClone

        self.inputs = inputs
        sharing = self._share(inputs, qemu, device)
        self.clone = WaitingClone(self._open_state(), self.port, sharing)
        return self.clone
