"""Starts crosvm."""

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from avf.confine import ConfinementError, SpawnError, explain_confinement, spawn
from avf.disk import DiskError, crosvm_disk
from avf.vmm.base import VmmStartError, VmmUnavailable, VmSpec
from avf.vmm.crosvm.box import crosvm_box
from avf.vmm.crosvm.command import Inputs, crosvm_command
from avf.vmm.crosvm.control import ControlSocket
from avf.vmm.crosvm.process import CrosvmProcess
from avf.vmm.images import open_image
from avf.vmm.outlets import open_outlet
from avf.vsock import KernelVsock

PROGRAM = "crosvm"


def find_crosvm(program: str | None = None) -> str:
    """The absolute path of crosvm: `program`, else `$AVF_CROSVM`, else crosvm. Raises VmmUnavailable."""
    wanted = program or os.environ.get("AVF_CROSVM") or PROGRAM
    found = shutil.which(wanted)
    if found is None:
        raise VmmUnavailable(f"{wanted} is not installed")
    return str(Path(found).absolute())


class Crosvm:
    """A Vmm: crosvm. It needs KVM and the kernel's vhost-vsock; the board is always PCI."""

    name = "crosvm"
    supports_protected = True

    def __init__(
        self, program: str | None = None, *, balloon: bool = True, firmware: str | None = None
    ) -> None:
        """`firmware`: path of the protected VM firmware, None for the hypervisor's own."""
        self._program = program
        self._balloon = balloon
        self._firmware = firmware

    def emulates(self, kernel: int | None) -> bool:
        return False

    def start(self, spec: VmSpec, on_event: Callable[[str], None] | None = None) -> CrosvmProcess:
        """See Vmm.start. `on_event` is called in the thread that watches the VM."""
        program = find_crosvm(self._program)
        if not isinstance(spec.vsock, KernelVsock):
            raise VmmUnavailable("crosvm needs the kernel's vhost-vsock")
        if spec.kernel is None and spec.bootloader is None:
            raise VmmStartError("neither a kernel nor a bootloader is given")
        try:
            with ExitStack() as stack:
                return self._start(program, spec, stack, on_event)
        except (DiskError, SpawnError) as error:
            raise VmmStartError(str(error)) from error
        except ConfinementError as error:
            raise VmmUnavailable(str(error)) from error
        except (OSError, RuntimeError) as error:  # the latter: no thread can be started
            raise VmmStartError(f"cannot start crosvm: {error}") from error

    def _start(
        self,
        program: str,
        spec: VmSpec,
        stack: ExitStack,
        on_event: Callable[[str], None] | None,
    ) -> CrosvmProcess:
        with ExitStack() as undo:
            stderr, stderr_write = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, stderr)
            stack.callback(os.close, stderr_write)
            os.set_blocking(stderr, False)
            control = ControlSocket(spec.temporary_directory)
            listener = stack.enter_context(control.listen())
            undo.callback(control.remove)
            inputs = _open_inputs(spec, listener.fileno(), stack)
            command = crosvm_command(
                program,
                spec,
                inputs,
                host_cpus=os.sysconf("SC_NPROCESSORS_CONF"),
                balloon=self._balloon,
                firmware=self._firmware,
            )
            box = crosvm_box(program, spec, inputs, self._firmware)
            child = spawn(command, fds=inputs.fds, stderr=stderr_write, box=box)
            undo.callback(child.abort)
            process = CrosvmProcess(
                child, control, stderr, on_event, confinement=str(explain_confinement())
            )
            undo.pop_all()
            return process


def _open_inputs(spec: VmSpec, control: int, stack: ExitStack) -> Inputs:
    def image(fd: int | None, what: str) -> int | None:
        return None if fd is None else open_image(fd, what, stack)

    return Inputs(
        control=control,
        console=open_outlet(spec.console, "console", stack),
        failure=open_outlet(spec.failure, "failure", stack),
        ramdump=open_outlet(spec.ramdump, "ramdump", stack),
        log=open_outlet(spec.log, "log", stack),
        disks=tuple(
            crosvm_disk(disk, f"composite-{index}", stack) for index, disk in enumerate(spec.disks)
        ),
        kernel=image(spec.kernel, "kernel"),
        initrd=image(spec.initrd, "initrd"),
        bootloader=image(spec.bootloader, "bootloader"),
    )
