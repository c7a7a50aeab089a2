"""createVm, step by step, in AVF's order: whatever fails, nothing is left behind."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from avf import settings
from avf.aidl.virtualizationservice import (
    CpuTopology,
    VirtualMachineConfig,
)
from avf.aidl.virtualizationservice_internal import AtomVmCreationRequested
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.aidl.vm_control import LifecycleStep, VmParts
from avf.binder import ParcelFileDescriptor, RemoteException
from avf.disk import Disk, DiskError, check_disk
from avf.virtmgr import labels
from avf.virtmgr.app_config import load_app_config, load_payload_config
from avf.virtmgr.atoms import AtomSender
from avf.virtmgr.config import PLATFORM_VERSION, DiskConfig, MachineConfig, from_raw_config
from avf.virtmgr.context import VmContext
from avf.virtmgr.contexts import create_context
from avf.virtmgr.control import VmControl
from avf.virtmgr.debugger import DEBUGGER_SOCKET_NAME, DebuggerPort
from avf.virtmgr.descriptors import require_descriptors
from avf.virtmgr.errors import VirtmgrError, failure, failure_from, in_one_line
from avf.virtmgr.fds import Fds
from avf.virtmgr.forking import VmForker
from avf.virtmgr.global_service import GlobalService
from avf.virtmgr.invocation import Invocation
from avf.virtmgr.kind import kind_of
from avf.virtmgr.loggers import logging_pipe
from avf.virtmgr.machine import VmInstance
from avf.virtmgr.metrics import VmMetrics
from avf.virtmgr.output import VmOutput
from avf.virtmgr.owner import is_socket
from avf.virtmgr.parts import noted_parts
from avf.virtmgr.permissions import require_custom
from avf.virtmgr.ramdump import Ramdump, dump_limit
from avf.virtmgr.requester import Requester
from avf.virtmgr.stream import ErrorStream
from avf.virtmgr.table import VmTable
from avf.virtmgr.task_profiles import ConfinedVmm, default_cgroup, load_profiles
from avf.virtmgr.timeline import Timeline
from avf.virtmgr.timeouts import boot_timeout
from avf.virtmgr.typed import Typed
from avf.virtmgr.version_req import VersionReqError, matches
from avf.virtmgr.warm import warm_vmm
from avf.vmm import SLOTS, Qemu, Vmm, VmSpec

if TYPE_CHECKING:
    from avf.virtmgr.pool import Pool, WaitingVm

MAX_PORT = 65535
CONFIG_TYPE_APP = 1
CONFIG_TYPE_RAW = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Streams:
    """What a VM writes to, as descriptors, and what is kept of it."""

    console: int | None
    os_log: int | None
    output: VmOutput
    takes_input: bool
    """Whether what is typed reaches the console."""


class VmCreation:
    """One call of createVm."""

    def __init__(
        self,
        global_service: GlobalService,
        machines: VmTable,
        vmm: Vmm,
        atoms: AtomSender,
        pool: "Pool | None" = None,
    ) -> None:
        self._global_service = global_service
        self._machines = machines
        self._vmm = vmm
        self._atoms = atoms
        self._timeline = Timeline()
        self._pool = pool
        self.is_protected = False
        """As far as it is known, for the atom."""

    def run(
        self,
        config: VirtualMachineConfig,
        console_fd: ParcelFileDescriptor | None,
        input_fd: ParcelFileDescriptor | None,
        log_fd: ParcelFileDescriptor | None,
        requester: Requester,
        invocation: Invocation | None = None,
    ) -> VmInstance:
        """The new VM, in the table. Raises RemoteException."""
        if _is_custom(config):
            require_custom(self._global_service)
        _check_gdb_port(config)
        require_descriptors()
        with contextlib.ExitStack() as undo:
            waiting = self._take_clone(config)
            context = self._context(config, requester, waiting)
            undo.callback(context.close)
            self._timeline.ended("context")
            if waiting is not None:
                with _told("Failed to create VM: "):
                    waiting.claim()
            files = Fds()
            undo.callback(files.close)
            errors = self._errors(context, invocation, files)
            if errors is not None:
                undo.callback(errors.end)
            streams = self._streams(
                config, console_fd, input_fd, log_fd, errors, context.cid, files
            )
            undo.callback(streams.output.close)
            machine_config = self._load(config, files, invocation)
            self._timeline.ended("files")
            machine = self._instance(
                config, machine_config, context, files, streams, requester, waiting
            )
            machine.parts = _parts(config, machine_config, invocation)
            if machine.spec.forkable:
                machine.forker = self._forker(machine)
            context.serve_control(VmControl(machine))
            self._machines.add(machine)
            undo.pop_all()
        self._timeline.ended("disks")
        self._timeline.reached(LifecycleStep.CREATED)
        log.info("%s created", machine)
        return machine

    def _context(
        self, config: VirtualMachineConfig, requester: Requester, waiting: "WaitingVm | None"
    ) -> VmContext:
        """The one of a clone that has waited, or a new one. Raises RemoteException."""
        if waiting is not None:
            return waiting.context
        is_app = config.which == "app_config"
        return create_context(
            self._global_service,
            self._machines,
            requester.pid,
            is_app=is_app,
            in_user_space=is_app and config.app_config.forkable,
        )

    def _streams(
        self,
        config: VirtualMachineConfig,
        console_fd: ParcelFileDescriptor | None,
        input_fd: ParcelFileDescriptor | None,
        log_fd: ParcelFileDescriptor | None,
        errors: ErrorStream | None,
        cid: int,
        files: Fds,
    ) -> "_Streams":
        """Where the VM writes to and reads from. Raises RemoteException."""
        console = _output(config, console_fd, f"Console({cid})", files)
        os_log = _output(config, log_fd, f"Log({cid})", files)
        takes_input = _is_debuggable(config) or config.which == "raw_config"
        if input_fd is not None:
            self._check_input(takes_input)
            if console is None:
                with _told("Failed to create VM: "):
                    console = files.add(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        typed = _typed(input_fd, console, files) if takes_input else None
        output = VmOutput(
            console=console is not None, log=os_log is not None, typed=typed, errors=errors
        )
        return _Streams(console, os_log, output, console is not None and takes_input)

    def _errors(
        self, context: VmContext, invocation: Invocation | None, files: Fds
    ) -> ErrorStream | None:
        """Where the payload's standard error goes, if not to the log. Raises RemoteException."""
        if invocation is None or invocation.stderr_fd is None:
            return None
        with _told("Failed to create VM: "):
            owner = files.clone(invocation.stderr_fd)
            vsock = context.vsock
            port = IVirtualMachineService.VM_STDERR_PORT_BASE + context.cid
            return ErrorStream(owner, vsock.listen(port), vsock.accepts)

    def _instance(
        self,
        config: VirtualMachineConfig,
        machine_config: MachineConfig,
        context: VmContext,
        files: Fds,
        streams: "_Streams",
        requester: Requester,
        waiting: "WaitingVm | None",
    ) -> VmInstance:
        """The VM that was asked for, if it may be and can be. Raises RemoteException."""
        is_app = config.which == "app_config"
        self._check_features(config, machine_config)
        _check_labels(machine_config, is_app, requester.uid)
        spec = replace(
            self._specify(machine_config, context, streams.console, streams.os_log),
            gdb_listener=self._open_door(machine_config, context, files),
        )
        vmm = self._vmm
        if is_app:
            vmm = warm_vmm(vmm, config.app_config, machine_config, waiting)
        return VmInstance(
            context,
            spec,
            files,
            requester,
            self._confined_vmm(vmm, context, machine_config.task_profiles),
            VmMetrics(self._atoms, requester.uid, spec.name),
            self._boot_timeout(machine_config, spec.kernel) if is_app else None,
            streams.output,
            Ramdump(dump_limit(spec.memory_mib)) if _is_debuggable(config) else None,
            takes_console_input=streams.takes_input,
            timeline=self._timeline,
        )

    def _forker(self, machine: VmInstance) -> VmForker:
        """For a VM that can be copied while it runs."""
        assert isinstance(self._vmm, Qemu)
        boot = boot_timeout(self._vmm, machine.spec.kernel)
        return VmForker(machine, self._vmm, boot, self._global_service, self._machines, self._atoms)

    def _take_clone(self, config: VirtualMachineConfig) -> "WaitingVm | None":
        """One that has waited for a VM like this."""
        if self._pool is None or config.which != "app_config" or config.app_config.forkable:
            return None  # what waits has memory that cannot be copied
        kind = kind_of(config.app_config)
        return None if kind is None else self._pool.take(kind)

    def _confined_vmm(self, vmm: Vmm, context: VmContext, task_profiles: list[str]) -> Vmm:
        """The VMM within what its task profiles allow."""
        if not task_profiles:
            return vmm
        with _told("Failed to create VM: "):
            profiles = load_profiles()
            settings = profiles.merged(task_profiles)
            confined = ConfinedVmm(vmm, profiles.cgroup or default_cgroup(), settings)
        context.on_close(lambda: confined.remove_group(context.cid))
        return confined

    def _check_features(self, config: VirtualMachineConfig, machine: MachineConfig) -> None:
        """Refuses, in so many words, what this host or this VM cannot have. Raises RemoteException."""
        if machine.protected and not self._vmm.supports_protected:
            raise RemoteException.unsupported_operation(
                f"Protected VMs are not supported: {self._vmm.name} cannot keep a guest's memory from"
                " the host"
            )
        if machine.forkable:
            self._check_forkable(machine)
        if machine.wait_for_debugger and machine.protected:
            raise RemoteException.security("Can't use gdb with protected VMs")
        if (
            machine.wait_for_debugger
            and config.which == "app_config"
            and not _is_debuggable(config)
        ):
            raise RemoteException.security("Can't use gdb with non-debuggable VMs")

    def _check_forkable(self, machine: MachineConfig) -> None:
        """Raises RemoteException."""
        if not isinstance(self._vmm, Qemu):
            raise RemoteException.unsupported_operation(
                f"forkable: {self._vmm.name} cannot copy a VM while it runs"
            )
        if machine.wait_for_debugger:
            raise RemoteException.illegal_argument(
                "forkable: a VM that waits for a debugger cannot be forked"
            )
        if settings.vsock() == "kernel":
            raise RemoteException.unsupported_operation(
                "forkable: needs vsock in user space, but AVF_VSOCK is kernel"
            )
        if len(machine.disks) >= SLOTS or machine.bootloader is not None:
            raise RemoteException.unsupported_operation(
                "forkable: this guest image cannot be forked"
            )

    def _check_input(self, takes_input: bool) -> None:
        """Raises RemoteException."""
        if not takes_input:
            raise RemoteException.security("Can't type into non-debuggable VMs")
        if self._vmm.name == "crosvm":
            raise RemoteException.unsupported_operation("crosvm takes no console input yet")

    def _boot_timeout(self, config: MachineConfig, kernel: int | None) -> float | None:
        """None where nobody can tell how long a debugger holds the guest: crosvm does not."""
        if config.wait_for_debugger and self._vmm.name == "crosvm":
            return None
        return boot_timeout(self._vmm, kernel)

    def _open_door(self, config: MachineConfig, context: VmContext, files: Fds) -> int | None:
        """The listening socket for the gdb server of a VM that waits for a debugger."""
        if not config.wait_for_debugger:
            return None
        with _told("Failed to create VM: "):
            listener = files.add(context.listen(DEBUGGER_SOCKET_NAME).detach())
            if config.gdb_port:
                connect = partial(context.connect, DEBUGGER_SOCKET_NAME)
                context.on_close(DebuggerPort(config.gdb_port, connect).close)
        return listener

    def _load(
        self, config: VirtualMachineConfig, files: Fds, invocation: Invocation | None
    ) -> MachineConfig:
        if config.which == "raw_config":
            self.is_protected = config.raw_config.protected_vm
            with _told("Failed to make composite image: "):
                return from_raw_config(config.raw_config, files)
        self.is_protected = config.app_config.protected_vm
        with _told("Failed to load app config: "):
            return load_app_config(config.app_config, files, invocation)

    def _specify(
        self,
        config: MachineConfig,
        context: VmContext,
        console: int | None,
        os_log: int | None,
    ) -> VmSpec:
        disks = tuple(_assemble(disk) for disk in config.disks)
        cpus = _cpus(config.cpu_topology)
        version_matches = _platform_version_matches(config.platform_version)
        with _told("Failed to create VM: "):
            _validate(config, version_matches)
        return VmSpec(
            cid=context.cid,
            name=config.name,
            temporary_directory=context.temporary_directory,
            vsock=context.vsock,
            kernel=config.kernel,
            initrd=config.initrd,
            bootloader=config.bootloader,
            params=config.params,
            disks=disks,
            image_disks=config.image_disks,
            memory_mib=config.memory_mib if config.memory_mib > 0 else None,
            cpus=cpus,
            protected=config.protected,
            machine=config.machine,
            console=console,
            log=os_log,
            task_profiles=tuple(config.task_profiles),
            forkable=config.forkable,
        )


def creation_atom(
    config: VirtualMachineConfig, is_protected: bool, uid: int, error: RemoteException | None
) -> AtomVmCreationRequested:
    """What is told about a call of createVm, memory and CPUs as asked for."""
    is_app = config.which == "app_config"
    part = config.app_config if is_app else config.raw_config
    return AtomVmCreationRequested(
        uid=uid,
        vm_identifier=part.name,
        is_protected=is_protected,
        creation_succeeded=error is None,
        binder_exception_code=0 if error is None else int(error.code),
        config_type=CONFIG_TYPE_APP if is_app else CONFIG_TYPE_RAW,
        num_cpus=1 if part.cpu_topology == CpuTopology.ONE_CPU else os.cpu_count() or -1,
        memory_mib=part.memory_mib,
        apexes=_apex_names(config),
    )


def _apex_names(config: VirtualMachineConfig) -> str:
    if config.which == "raw_config" or config.app_config.payload.which == "payload_config":
        return ""
    app = config.app_config
    try:
        if app.apk is None:
            raise VirtmgrError("apk is missing")
        return ":".join(a.name for a in load_payload_config(app.apk.fileno(), app.payload).apexes)
    except (VirtmgrError, OSError, ValueError):
        return "INFO: Can't get VmPayloadConfig"


@contextlib.contextmanager
def _told(prefix: str) -> Iterator[None]:
    """Turns what goes wrong inside into what the caller is told."""
    try:
        yield
    except (VirtmgrError, DiskError, OSError) as e:
        log.error("%s%s", prefix, in_one_line(e))
        raise failure_from(e, prefix) from e


def _parts(
    config: VirtualMachineConfig, machine: MachineConfig, invocation: Invocation | None
) -> VmParts:
    """What cannot be noted is missing."""
    try:
        return noted_parts(config, machine, invocation)
    except OSError as e:
        log.warning("what the VM is made of cannot be told: %s", e)
        return VmParts()


def _is_custom(config: VirtualMachineConfig) -> bool:
    if config.which == "raw_config":
        return True
    app = config.app_config
    debugged = app.gdb_port != 0 or app.wait_for_debugger
    return bool(app.task_profiles) or app.payload.which == "config_path" or debugged


def _check_gdb_port(config: VirtualMachineConfig) -> None:
    part = config.app_config if config.which == "app_config" else config.raw_config
    if not 0 <= part.gdb_port <= MAX_PORT:
        raise RemoteException.illegal_argument(
            f"gdbPort is {part.gdb_port}; a TCP port is a number from 1 to {MAX_PORT}, and 0 is none"
        )


def _is_debuggable(config: VirtualMachineConfig) -> bool:
    return config.which == "app_config" and config.app_config.debug_level.value != 0


def _output(
    config: VirtualMachineConfig, fd: ParcelFileDescriptor | None, tag: str, files: Fds
) -> int | None:
    """Where the console or the log goes: to the caller, else, if the VM is debuggable, to our log."""
    if fd is not None:
        return files.clone(fd)
    if not _is_debuggable(config):
        return None
    try:
        return files.add(logging_pipe(tag))
    except OSError as e:
        raise failure_from(e, "Failed to create pipe: ") from e


def _typed(fd: ParcelFileDescriptor | None, console: int | None, files: Fds) -> Typed | None:
    """What the owner types: `fd`, else its console if that is a socket. Raises RemoteException."""
    if fd is None:
        return Typed(console) if console is not None and is_socket(console) else None
    try:
        return Typed(files.clone(fd))
    except OSError as e:
        raise failure_from(e, "Failed to use consoleInFd: ") from e


def _check_labels(config: MachineConfig, is_app: bool, uid: int) -> None:
    for disk in config.disks:
        for partition in disk.partitions:
            if not (is_app and labels.is_exempt(partition.label)):
                _check_label(partition.fd, f"Partition {partition.label} invalid", uid)
    if config.protected:
        for fd, name in ((config.kernel, "kernel"), (config.initrd, "initrd")):
            if fd is not None:
                _check_label(fd, f"{name} file invalid", uid)


def _check_label(fd: int, message: str, uid: int) -> None:
    try:
        labels.check_file(fd, uid)
    except labels.LabelError as e:
        error = VirtmgrError(message)
        error.__cause__ = e
        raise failure_from(error) from e


def _assemble(config: DiskConfig) -> Disk:
    try:
        disk = config.assemble()
    except ValueError as e:
        raise RemoteException.illegal_argument(str(e)) from None
    with _told("Failed to make composite image: "):
        check_disk(disk)
    return disk


def _cpus(topology: CpuTopology) -> int | None:
    if topology == CpuTopology.MATCH_HOST:
        return None
    if topology == CpuTopology.ONE_CPU:
        return 1
    raise failure(f"Failed to parse CPU topology value: {int(topology)}")


def _host_memory_mib() -> int:
    """RAM and swap together."""
    info = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(info[name].split()[0]) for name in ("MemTotal", "SwapTotal")) >> 10


def _platform_version_matches(requirement: str) -> bool:
    try:
        return matches(requirement, PLATFORM_VERSION)
    except VersionReqError as e:
        raise RemoteException.bad_parcelable(
            f"Invalid platform version requirement {requirement}: {e}"
        ) from e


def _validate(config: MachineConfig, version_matches: bool) -> None:
    if config.memory_mib > (most := _host_memory_mib()):
        raise VirtmgrError(f"memoryMib is {config.memory_mib}, but this host has {most}")
    if config.bootloader is None and config.kernel is None:
        raise VirtmgrError("VM must have either a bootloader or a kernel image.")
    if config.bootloader is not None and (config.kernel is not None or config.initrd is not None):
        raise VirtmgrError("Can't have both bootloader and kernel/initrd image.")
    if not version_matches:
        raise VirtmgrError(
            "Incompatible platform version. The config is compatible with platform version(s)"
            f" {config.platform_version}, but the actual platform version is"
            f" {'.'.join(map(str, PLATFORM_VERSION))}"
        )
