"""Forks of running VMs: what one may be made of, and the clone that goes on from there."""

import contextlib
import itertools
import logging
from collections.abc import Callable
from dataclasses import replace

from avf.aidl.virtualizationservice import IVirtualMachine
from avf.binder import ParcelFileDescriptor, RemoteException
from avf.virtmgr.atoms import AtomSender
from avf.virtmgr.context import VmContext
from avf.virtmgr.contexts import create_context
from avf.virtmgr.control import VmControl
from avf.virtmgr.descriptors import require_descriptors
from avf.virtmgr.errors import VirtmgrError, failure, failure_from
from avf.virtmgr.fds import Fds
from avf.virtmgr.global_service import GlobalService
from avf.virtmgr.host_memory import DEFAULT_MEMORY_MIB, RESERVE_MIB, available_mib
from avf.virtmgr.loggers import logging_pipe
from avf.virtmgr.machine import PayloadState, VmInstance
from avf.virtmgr.metrics import VmMetrics
from avf.virtmgr.output import VmOutput
from avf.virtmgr.ramdump import Ramdump, dump_limit
from avf.virtmgr.table import VmTable
from avf.virtmgr.timeline import Timeline
from avf.virtmgr.virtual_machine import VirtualMachine
from avf.vmm import (
    ForkPoint,
    ForkRefused,
    NotSupported,
    Qemu,
    QemuProcess,
    VmmControlError,
    VmProcess,
    VmSpec,
)

FAILED = "Failed to fork VM: "

log = logging.getLogger(__name__)


class VmForker:
    """A Forker: makes clones of one VM that was made for it."""

    def __init__(
        self,
        machine: VmInstance,
        qemu: Qemu,
        boot_timeout: float | None,
        global_service: GlobalService,
        machines: VmTable,
        atoms: AtomSender,
    ) -> None:
        """`boot_timeout`: of the VM, and of its clones."""
        self._machine = machine
        self._qemu = qemu
        self._boot_timeout = boot_timeout
        self._global_service = global_service
        self._machines = machines
        self._atoms = atoms
        self._numbers = itertools.count(1)

    def fork(
        self,
        name: str,
        console_fd: ParcelFileDescriptor | None,
        log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        """See IVmControl.fork. Raises RemoteException."""
        process = self._running()
        require_descriptors()
        self._require_memory()
        with contextlib.ExitStack() as undo:
            context = create_context(
                self._global_service,
                self._machines,
                self._machine.requester.pid,
                is_app=False,
                in_user_space=True,
            )
            undo.callback(context.close)
            point = _Point(self._copy(process), next(self._numbers))
            context.on_close(point.close)
            files = Fds()
            undo.callback(files.close)
            clone = self._clone(context, point, name, console_fd, log_fd, files)
            clone.parts = self._machine.parts
            clone.forker = CloneOf(self._machine.cid)
            context.serve_control(VmControl(clone))
            self._machines.add(clone)
            undo.pop_all()
        log.info("%s is clone %d of the VM with CID %d", clone, point.number, self._machine.cid)
        return VirtualMachine(clone, self._machines)

    def _running(self) -> QemuProcess:
        try:
            process = self._machine.process()
        except VirtmgrError as e:
            raise failure_from(e, FAILED) from e
        state = self._machine.payload_state
        if state not in (PayloadState.STARTED, PayloadState.READY):
            problem = "has not started" if state is PayloadState.STARTING else "has ended"
            raise RemoteException.illegal_state(f"{FAILED}its payload {problem}")
        assert isinstance(process, QemuProcess)
        return process

    def _require_memory(self) -> None:
        """For the copy, and what the clone writes to. Raises RemoteException."""
        wanted = 2 * (self._machine.spec.memory_mib or DEFAULT_MEMORY_MIB) + RESERVE_MIB
        try:
            free = available_mib()
        except OSError as e:
            raise failure_from(e, FAILED) from e
        if free < wanted:
            raise failure(f"{FAILED}{free} MiB of memory are free; a fork needs {wanted}")

    def _copy(self, process: QemuProcess) -> ForkPoint:
        """Raises RemoteException."""
        try:
            return process.fork()
        except ForkRefused as e:
            raise RemoteException.illegal_state(f"{FAILED}the guest refuses: {e}") from e
        except NotSupported as e:
            raise RemoteException.unsupported_operation(f"{FAILED}{e}") from e
        except VmmControlError as e:
            log.error("%s%s", FAILED, e)
            raise failure_from(e, FAILED) from e

    def _clone(
        self,
        context: VmContext,
        point: "_Point",
        name: str,
        console_fd: ParcelFileDescriptor | None,
        log_fd: ParcelFileDescriptor | None,
        files: Fds,
    ) -> VmInstance:
        """Raises RemoteException."""
        machine = self._machine
        debuggable = machine.parts.is_debuggable
        console = _output(console_fd, f"Console({context.cid})", files, to_log=debuggable)
        os_log = _output(log_fd, f"Log({context.cid})", files, to_log=debuggable)
        spec = replace(
            machine.spec,
            cid=context.cid,
            name=name or f"{machine.name}-{point.number}",
            temporary_directory=context.temporary_directory,
            vsock=context.vsock,
            kernel=None,
            initrd=None,
            disks=point.disks,
            console=console,
            log=os_log,
            forkable=False,
        )
        output = VmOutput(console=console is not None, log=os_log is not None, typed=None)
        return VmInstance(
            context,
            spec,
            files,
            machine.requester,
            _ForkedVmm(self._qemu, point),
            VmMetrics(self._atoms, machine.requester.uid, spec.name),
            self._boot_timeout,
            output,
            Ramdump(dump_limit(spec.memory_mib)) if debuggable else None,
            takes_console_input=console is not None and debuggable,
            timeline=Timeline(),
        )


class CloneOf:
    """The Forker of a clone: there are no clones of clones."""

    def __init__(self, original: int) -> None:
        """`original`: the CID."""
        self._original = original

    def fork(
        self,
        name: str,
        console_fd: ParcelFileDescriptor | None,
        log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        """Raises RemoteException."""
        raise RemoteException.unsupported_operation(
            f"{FAILED}it is a clone; only its original, the VM with CID {self._original}, can be forked"
        )


class _Point:
    """Where one clone goes on from. It is let go of when the clone runs, or never will."""

    def __init__(self, point: ForkPoint, number: int) -> None:
        self.number = number
        self._point: ForkPoint | None = point
        self.disks = point.disks.disks

    def take(self) -> ForkPoint:
        """The caller's. Once only; raises VirtmgrError afterwards."""
        point, self._point = self._point, None
        if point is None:
            raise VirtmgrError("the clone was let go of")
        return point

    def close(self) -> None:
        """Idempotent."""
        if self._point is not None:
            self.take().close()


class _ForkedVmm:
    """A Vmm that goes on with a copy of a running guest."""

    supports_protected = False

    def __init__(self, qemu: Qemu, point: _Point) -> None:
        self.name = qemu.name
        self._qemu = qemu
        self._point = point

    def emulates(self, kernel: int | None) -> bool:
        return self._qemu.emulates(kernel)

    def start(self, spec: VmSpec, on_event: Callable[[str], None] | None = None) -> VmProcess:
        """See Vmm.start."""
        with contextlib.closing(self._point.take()) as point:
            return self._qemu.start_fork(spec, point, self._point.number, on_event)


def _output(fd: ParcelFileDescriptor | None, tag: str, files: Fds, *, to_log: bool) -> int | None:
    """Where the console or the log goes: to the caller, else to our log or nowhere. Raises RemoteException."""
    if fd is not None:
        return files.clone(fd)
    if not to_log:
        return None
    try:
        return files.add(logging_pipe(tag))
    except OSError as e:
        raise failure_from(e, f"{FAILED}no pipe: ") from e
