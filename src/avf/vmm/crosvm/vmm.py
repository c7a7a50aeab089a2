"""Starts crosvm."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from avf import settings
from avf.causes import words
from avf.confine import Child, ConfinementError, Level, SpawnError, explain_confinement, spawn
from avf.disk import DiskError, crosvm_disk
from avf.vmm.base import VmmStartError, VmmUnavailable, VmSpec
from avf.vmm.crosvm import gdb_bridge
from avf.vmm.crosvm.box import crosvm_box
from avf.vmm.crosvm.command import GDB_PORT, Inputs, crosvm_command
from avf.vmm.crosvm.control import ControlSocket
from avf.vmm.crosvm.door import Door
from avf.vmm.crosvm.options import Options, options_of
from avf.vmm.crosvm.process import CrosvmProcess, UserVsock
from avf.vmm.images import open_image
from avf.vmm.outlets import open_outlet
from avf.vmm.vsock_device import start_vsock_device
from avf.vsock import HybridVsock, KernelVsock

PROGRAM = "crosvm"


def find_crosvm(program: str | None = None) -> str:
    """The absolute path of crosvm: `program`, else `$AVF_CROSVM`, else crosvm. Raises VmmUnavailable."""
    wanted = program or settings.crosvm() or PROGRAM
    found = shutil.which(wanted)
    if found is None:
        raise VmmUnavailable(f"{wanted} is not installed; AVF_CROSVM names a crosvm program")
    return str(Path(found).absolute())


class Crosvm:
    """A Vmm: crosvm. It needs KVM; the board is always PCI."""

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
        """Never: see Vmm.emulates."""
        return False

    def start(self, spec: VmSpec, on_event: Callable[[str], None] | None = None) -> CrosvmProcess:
        """See Vmm.start. `on_event` is called in the thread that watches the VM."""
        program = find_crosvm(self._program)
        if spec.kernel is None and spec.bootloader is None:
            raise VmmStartError("neither a kernel nor a bootloader is given")
        try:
            with ExitStack() as stack:
                return self._start(program, options_of(program), spec, stack, on_event)
        except (DiskError, SpawnError) as error:
            raise VmmStartError(str(error)) from error
        except ConfinementError as error:
            raise VmmUnavailable(str(error)) from error
        except (OSError, RuntimeError) as error:  # the latter: no thread can be started
            raise VmmStartError(f"cannot start crosvm: {words(error)}") from error

    def _start(
        self,
        program: str,
        options: Options,
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
            vsock = _vsock(spec, stderr_write, stack, undo)
            name = None if vsock is None else vsock.door.name
            inputs = _open_inputs(spec, listener.fileno(), name, stack)
            command = crosvm_command(
                program,
                spec,
                inputs,
                options,
                host_cpus=os.sysconf("SC_NPROCESSORS_CONF"),
                balloon=self._balloon,
                firmware=self._firmware,
            )
            box = crosvm_box(program, spec, inputs, self._firmware)
            child = spawn(command, fds=inputs.fds, stderr=stderr_write, box=box)
            undo.callback(child.abort)
            spec.ended("spawn")
            process = CrosvmProcess(
                child,
                vsock,
                control,
                stderr,
                on_event,
                confinement=str(explain_confinement()),
                debugger=_debugger(spec, child, stderr_write, undo),
            )
            undo.pop_all()
            return process


def _vsock(spec: VmSpec, stderr: int, stack: ExitStack, undo: ExitStack) -> UserVsock | None:
    """None where the kernel carries vsock."""
    if isinstance(spec.vsock, KernelVsock):
        return None
    if not isinstance(spec.vsock, HybridVsock):
        raise VmmUnavailable(f"crosvm cannot use {type(spec.vsock).__name__}")
    door = Door(spec.temporary_directory, stack)
    undo.callback(door.close)
    device = start_vsock_device(spec.cid, spec.vsock, door.fileno(), stderr, undo)
    return UserVsock(device, door)


def _debugger(spec: VmSpec, crosvm: Child, stderr: int, undo: ExitStack) -> Child | None:
    """What leads from the debugger's socket to crosvm's port."""
    if spec.gdb_listener is None:
        return None
    if explain_confinement().level is not Level.FULL:
        raise VmmUnavailable(
            "crosvm serves a debugger on all addresses of its network: it needs full confinement, where that is its own"
        )
    crosvm.settle()
    program = [os.path.realpath(sys.executable), "-I", "-S", gdb_bridge.__file__]
    command = [
        *("nsenter", f"--target={crosvm.pid}", "--user", "--net", "--preserve-credentials", "--"),
        *(*program, str(spec.gdb_listener), str(GDB_PORT)),
    ]
    bridge = spawn(command, fds=[spec.gdb_listener], stderr=stderr)
    undo.callback(bridge.abort)
    return bridge


def _open_inputs(spec: VmSpec, control: int, vsock: int | None, stack: ExitStack) -> Inputs:
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
        vsock=vsock,
    )
