"""Starts QEMU."""

import os
import shutil
import socket
import weakref
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from avf import settings
from avf.causes import words
from avf.confine import ConfinementError, SpawnError
from avf.disk import DiskError, QemuDisk
from avf.vmm.accel import Acceleration, Accelerator, acceleration_for
from avf.vmm.base import ExitReport, Machine, VmmStartError, VmmUnavailable, VmSpec
from avf.vmm.qemu.command import MAX_DISKS, Host
from avf.vmm.qemu.fork_point import ForkPoint
from avf.vmm.qemu.fork_start import ForkableCloneStart, ForkableStart, ForkStart, own_memory
from avf.vmm.qemu.process import QemuProcess
from avf.vmm.qemu.shares import never_share_memory, remember_sharing, shares_memory
from avf.vmm.qemu.start import CloneStart, Start, TemplateStart, WaitingStart
from avf.vmm.qemu.template_key import check_clock, template_key
from avf.vmm.qemu.unfold import UnfoldedTemplate, unfold
from avf.vmm.qemu.unfolded import UnfoldedTemplates
from avf.vmm.qemu.waiting import WaitingQemu
from avf.vmm.templates import TemplateError, TemplateFacts, TemplateLate
from avf.vmm.tsc import tsc_khz

PROGRAM = "qemu-system-x86_64"
CLONE_SECONDS = 45.0
"""How long a clone may take to be one."""


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
        self._unfolded = UnfoldedTemplates()
        weakref.finalize(self, self._unfolded.clear)

    def emulates(self, kernel: int | None) -> bool:
        """See Vmm.emulates."""
        found = self._acceleration or acceleration_for(find_qemu(self._program), kernel)
        return found.accelerator is Accelerator.TCG

    def start(self, spec: VmSpec, on_event: Callable[[str], None] | None = None) -> QemuProcess:
        """See Vmm.start. `on_event` is called in the thread that watches the VM."""
        return self._start(spec, (ForkableStart if spec.forkable else Start)(spec, on_event))

    def start_clone(
        self,
        spec: VmSpec,
        state: int,
        known: TemplateFacts,
        on_event: Callable[[str], None] | None = None,
    ) -> QemuProcess:
        """As `start`, but the VM begins as a clone of a template with the key `template_key` gives for `spec`.

        Returns once the clone has taken an identity of its own. Raises TemplateError if it does not, TemplateLate if it
        does not in time or is killed: nothing is left then, and its disks were not touched.
        """
        host = self._host(spec, find_qemu(self._program))
        check_clock(host.tsc_khz, known.tsc_khz)
        if shares_memory() and not spec.forkable:
            process = self._start_sharing(spec, state, known, on_event)
            if process is not None:
                return process
        kind = ForkableCloneStart if spec.forkable else CloneStart
        with closing(_unfold(state, known)) as template:
            start = kind(spec, on_event, template, shares=False)
            return self._wait_for_clone(self._start(spec, start))

    def _start_sharing(
        self,
        spec: VmSpec,
        state: int,
        known: TemplateFacts,
        on_event: Callable[[str], None] | None,
    ) -> QemuProcess | None:
        """None if this host does not let clones share memory; that is remembered. Raises as `start_clone` does."""
        with closing(self._shared(state, known)) as template:
            start = CloneStart(spec, on_event, template, shares=True)
            return self._share(start, lambda: self._start(spec, start))

    def _share(self, start: CloneStart, run: Callable[[], QemuProcess]) -> QemuProcess | None:
        """As `_start_sharing`."""
        try:
            process = self._wait_for_clone(run())
        except TemplateError:
            if start.sharing is None or start.sharing.problem is None:
                raise
            never_share_memory(start.sharing.problem)
            return None
        remember_sharing()
        return process

    def _shared(self, state: int, known: TemplateFacts) -> UnfoldedTemplate:
        try:
            return self._unfolded.get(known.key, state, known.memory_mib << 20)
        except OSError as error:
            raise TemplateError(f"the template cannot be shared: {words(error)}") from error

    def start_fork(
        self,
        spec: VmSpec,
        point: ForkPoint,
        number: int,
        on_event: Callable[[str], None] | None = None,
    ) -> QemuProcess:
        """As `start`, but the VM goes on from where another one was copied; `spec` has that one's disks and memory.

        `number`: what tells the copy from others of the same VM, from 1. Returns once the copy has taken an identity of
        its own. Raises TemplateError if it does not, and nothing is left then.
        """
        if shares_memory():
            start = ForkStart(spec, on_event, point.memory, number, shares=True)
            process = self._share(start, lambda: self._run(start, point.host))
            if process is not None:
                return process
        with ExitStack() as stack:
            memory = own_memory(point.memory.memory, stack)
            own = UnfoldedTemplate(memory, point.memory.state)
            start = ForkStart(spec, on_event, own, number, shares=False)
            return self._wait_for_clone(self._run(start, point.host))

    def _wait_for_clone(self, process: QemuProcess) -> QemuProcess:
        try:
            if process.wait_until_started(CLONE_SECONDS):
                return process
        except TimeoutError:
            process.kill()
            process.wait()
            raise TemplateLate(f"no clone was made within {CLONE_SECONDS:g} s") from None
        said = f"no clone can be made: {explain(process.wait())}"
        raise TemplateLate(said) if process.was_interrupted else TemplateError(said)

    def start_waiting(self, spec: VmSpec, state: int, known: TemplateFacts) -> WaitingQemu:
        """A clone of a template that is made ready for a VM that is like `spec` and has its CID, and then waits.

        `spec` names no disks, ports or anything else that only one VM has. Returns at once. Raises TemplateError, or
        what `start` raises.
        """
        host = self._host(spec, find_qemu(self._program))
        check_clock(host.tsc_khz, known.tsc_khz)
        shares = shares_memory(proved=True)
        opened = self._shared(state, known) if shares else _unfold(state, known)
        with closing(opened) as template:
            start = WaitingStart(spec, template, shares=shares)
            return WaitingQemu(self._start(spec, start), start.clone, spec, start.inputs)

    def start_template(
        self, spec: VmSpec
    ) -> tuple[QemuProcess, socket.socket, tuple[QemuDisk, ...]]:
        """Boots a guest that becomes a template; besides, the host's end of its port and its disks: see `template`."""
        start = TemplateStart(spec, None)
        process = self._start(spec, start)
        return process, start.port, start.disks

    def template_key(self, spec: VmSpec) -> str | None:
        """The digest of all that a template for `spec` depends on; None if there can be none.

        Raises VmmUnavailable or OSError.
        """
        program = find_qemu(self._program)
        return template_key(program, spec, self._host(spec, program))

    def tsc_khz(self, spec: VmSpec) -> int | None:
        """The rate of the counter that a guest is told, if it is told one. Raises VmmUnavailable."""
        return self._host(spec, find_qemu(self._program)).tsc_khz

    def _start(self, spec: VmSpec, start: Start) -> QemuProcess:
        _check(spec)
        return self._run(start, self._host(spec, find_qemu(self._program)))

    def _run(self, start: Start, host: Host) -> QemuProcess:
        program = find_qemu(self._program)
        try:
            with ExitStack() as stack:
                return start.run(program, host, stack)
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


def _unfold(state: int, known: TemplateFacts) -> UnfoldedTemplate:
    """For one clone alone. Raises TemplateError."""
    try:
        return unfold(state, known.memory_mib << 20, shared=False)
    except OSError as error:
        raise TemplateError(f"the template cannot be copied: {words(error)}") from error


def explain(report: ExitReport) -> str:
    """Why a VMM that was to do something has ended, for people."""
    return "; ".join(filter(None, [*report.events, report.stderr_tail.strip()]))


def _check(spec: VmSpec) -> None:
    if spec.protected:
        raise VmmUnavailable("QEMU runs no protected VMs")
    if spec.kernel is None and spec.bootloader is None:
        raise VmmStartError("neither a kernel nor a bootloader is given")
    if len(spec.disks) > MAX_DISKS[Machine.PCI]:
        raise VmmStartError(f"{len(spec.disks)} disks; QEMU takes {MAX_DISKS[Machine.PCI]}")
