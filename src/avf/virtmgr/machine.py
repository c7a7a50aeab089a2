"""One VM from creation to death.

    NotStarted --start--> Running --VMM ends--> Dead
         \\--start fails--> Failed

The payload inside has a state of its own that only goes forward: Starting < Started < Ready < Finished < Hangup.
"""

import dataclasses
import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path
from typing import Protocol

from avf.aidl.virtualizationcommon import DeathReason, ErrorCode
from avf.aidl.virtualizationservice import (
    IVirtualMachine,
    IVirtualMachineCallback,
    VirtualMachineState,
)
from avf.aidl.vm_control import DeathReport, IVmControl, LifecycleStep, Refusal, VmParts
from avf.binder import ParcelFileDescriptor, RemoteException
from avf.runtime import host_vsock_dirs
from avf.virtmgr.callbacks import VirtualMachineCallbacks
from avf.virtmgr.context import VmContext, remove_temporary_files
from avf.virtmgr.death import HANGUP, death_reason
from avf.virtmgr.debugger import DEBUGGER_SOCKET_NAME
from avf.virtmgr.errors import VirtmgrError, in_one_line
from avf.virtmgr.fds import Fds
from avf.virtmgr.locks import require_unused
from avf.virtmgr.loggers import Collector
from avf.virtmgr.metrics import VmMetrics
from avf.virtmgr.output import VmOutput
from avf.virtmgr.ramdump import Ramdump
from avf.virtmgr.report import death_report
from avf.virtmgr.requester import Requester
from avf.virtmgr.timeline import GuestReport, ReportError, Timeline
from avf.virtmgr.told_timeline import told_timeline
from avf.vmm import ExitReport, Vmm, VmmControlError, VmmError, VmProcess, VmSpec

CALLBACK_SECONDS = 5
"""How long a death waits for callbacks that do not take their last event."""
FAILURE_TEXT_SECONDS = 5
OUTPUT_SECONDS = 2
ABOUT_TO_START_MILLIS = 2000
"""How long a VM that was created counts as one that is about to be started."""
SHORTEST_WAIT_SECONDS = 0.5
"""How often it is looked at most whether a debugger has let go of the guest."""

log = logging.getLogger(__name__)


class _StartError(VirtmgrError):
    """The VMM could not be started."""


class PayloadState(IntEnum):
    STARTING = 0
    STARTED = 1
    READY = 2
    FINISHED = 3
    HANGUP = 4

    @property
    def title(self) -> str:
        return self.name.capitalize()


_REPORTED = {
    PayloadState.STARTING: VirtualMachineState.STARTING,
    PayloadState.STARTED: VirtualMachineState.STARTED,
    PayloadState.READY: VirtualMachineState.READY,
    PayloadState.FINISHED: VirtualMachineState.FINISHED,
    PayloadState.HANGUP: VirtualMachineState.DEAD,
}


@dataclass(frozen=True, slots=True)
class NotStarted:
    spec: VmSpec

    def __str__(self) -> str:
        """The whole configuration, as a dump shows it."""
        return f"NotStarted {_shown(self.spec)}"


def _shown(value: object) -> str:
    """A value for people: texts and numbers as they are, of objects what they consist of."""
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value) if field.repr)
        parts = ", ".join(f"{name}: {_shown(getattr(value, name))}" for name in names)
        return f"{{ {parts} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, str | int):
        return repr(value)
    return str(value) if isinstance(value, Path) else type(value).__name__


@dataclass(frozen=True, slots=True)
class Running:
    process: VmProcess
    monitor: threading.Thread

    def __str__(self) -> str:
        return f"Running {{ pid: {self.process.pid} }}"


@dataclass(frozen=True, slots=True)
class Dead:
    def __str__(self) -> str:
        return "Dead"


@dataclass(frozen=True, slots=True)
class Failed:
    def __str__(self) -> str:
        return "Failed"


VmState = NotStarted | Running | Dead | Failed


class Forker(Protocol):
    """Makes clones of a VM that runs."""

    def fork(
        self,
        name: str,
        console_fd: ParcelFileDescriptor | None,
        log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        """See IVmControl.fork. Raises RemoteException."""


class VmInstance:
    """A VM and what belongs to it. `release` ends it, whatever state it is in."""

    def __init__(
        self,
        context: VmContext,
        spec: VmSpec,
        files: Fds,
        requester: Requester,
        vmm: Vmm,
        metrics: VmMetrics,
        boot_timeout: float | None,
        output: VmOutput,
        ramdump: Ramdump | None,
        takes_console_input: bool,
        timeline: Timeline,
    ) -> None:
        """Takes over `context`, `files`, `output` and `ramdump`.

        `boot_timeout`: seconds in which the payload must start, None for ever. `ramdump`: None if the guest's memory is
        nobody's business.
        """
        self.context = context
        self.cid = context.cid
        self.name = spec.name
        self.protected = spec.protected
        self.requester = requester
        self.spec = spec
        """What it is made of; the descriptors in it are gone once it was started."""
        self.vmm_name = vmm.name
        self.metrics = metrics
        self.output = output
        self.takes_console_input = takes_console_input
        self.timeline = timeline
        self.parts = VmParts()
        """What it is made of, for those who look at it."""
        self.forker: Forker | None = None
        """Who makes clones of it while it runs; None if it was not made for that."""
        self.callbacks = VirtualMachineCallbacks(self.cid)
        self._files = files
        self._ramdump = ramdump
        self._vmm = vmm
        self._boot_timeout = boot_timeout
        self._changed = threading.Condition()
        self._state: VmState = NotStarted(spec)
        self._payload_state = PayloadState.STARTING
        self._last_step = "created"
        self._death_report: DeathReport | None = None
        self._payload_events = threading.Lock()

    def __str__(self) -> str:
        kind = "Protected" if self.protected else "Non-protected"
        return f'{kind} virtual machine "{self.name}" (owner: {self.requester}, cid: {self.cid})'

    @property
    def state(self) -> VirtualMachineState:
        """What the owner sees."""
        with self._changed:
            match self._state:
                case NotStarted():
                    return VirtualMachineState.NOT_STARTED
                case Running():
                    return _REPORTED[self._payload_state]
                case _:
                    return VirtualMachineState.DEAD

    @property
    def is_starting(self) -> bool:
        """Whether it is on its way to its payload, or will probably be soon."""
        with self._changed:
            match self._state:
                case NotStarted():
                    return self.metrics.millis_since_creation() < ABOUT_TO_START_MILLIS
                case Running():
                    awaited = self._boot_timeout is not None and self.spec.gdb_listener is None
                    return awaited and self._payload_state is PayloadState.STARTING
                case _:
                    return False

    @property
    def vm_state(self) -> VmState:
        with self._changed:
            return self._state

    @property
    def payload_state(self) -> PayloadState:
        with self._changed:
            return self._payload_state

    @property
    def death_report(self) -> DeathReport | None:
        with self._changed:
            return self._death_report

    def process(self) -> VmProcess:
        """The VMM. Raises VirtmgrError unless the VM is running."""
        with self._changed:
            if not isinstance(self._state, Running):
                raise VirtmgrError("VM is not running", Refusal.NOT_RUNNING)
            return self._state.process

    @property
    def debugger_socket(self) -> Path | None:
        """Where the VM waits for a debugger."""
        if self.spec.gdb_listener is None:
            return None
        return self.context.temporary_directory / DEBUGGER_SOCKET_NAME

    def register_callback(self, callback: IVirtualMachineCallback) -> None:
        self.callbacks.add(callback)

    # Start and end

    def start(self) -> None:
        """Raises VirtmgrError if the VM was started before or the VMM cannot be; the VM has died then."""
        try:
            process = self._start()
        except _StartError as e:
            self._died_at_start(e)
            raise
        self.metrics.sample(process.pid)

    def _start(self) -> VmProcess:
        with self._changed:
            if not isinstance(self._state, NotStarted):
                raise VirtmgrError("VM already started or failed", Refusal.STARTED_BEFORE)
            spec = self._state.spec
            self._state = Failed()
            self.metrics.started()
            self.timeline.begin()
            self.timeline.reached(LifecycleStep.START_ASKED)
            self._last_step = "starting the VMM"
            try:
                return self._launch(spec)
            except (
                VirtmgrError,
                VmmError,
                OSError,
                RuntimeError,
            ) as e:  # the latter: no thread can be started
                raise _StartError(f"{self} failed to start", Refusal.START_FAILED) from e
            finally:
                self._files.close()

    def _died_at_start(self, error: VirtmgrError) -> None:
        """Whoever waits for the VM's end hears of it, and the report has the cause."""
        reason = DeathReason.START_FAILED
        step = f"starting the VMM failed: {in_one_line(error.__cause__ or error)}"
        with self._changed:
            self._last_step = step
            self.timeline.reached(LifecycleStep.DIED)
            self._death_report = DeathReport(
                reason=reason, last_step=step, timeline=told_timeline(self.timeline.picture())
            )
            self._changed.notify_all()
        self.callbacks.notify_died(reason, CALLBACK_SECONDS)

    def _launch(self, spec: VmSpec) -> VmProcess:
        """Starts the VMM and the thread that watches it: both or neither."""
        require_unused(spec.disks)
        self.timeline.ended("locks")
        failure = Collector()
        try:
            process = self._start_vmm(spec, failure)
        finally:
            failure.close_write_end()
        self._last_step = "the VMM was started; nothing was heard of the payload"
        monitor = threading.Thread(
            target=self._watch_exit, args=(process, failure), name=f"exit-{self.cid}", daemon=True
        )
        try:
            monitor.start()  # it cannot get far: we hold the lock
        except RuntimeError:
            process.kill()
            process.wait()
            raise
        self._state = Running(process, monitor)
        self.timeline.reached(LifecycleStep.STARTED)
        return process

    def _start_vmm(self, spec: VmSpec, failure: Collector) -> VmProcess:
        with ExitStack() as stack:
            spec = stack.enter_context(self.output.connected(spec))
            if self._ramdump is not None:
                spec = stack.enter_context(self._ramdump.connected(spec))
            return self._vmm.start(
                dataclasses.replace(spec, failure=failure.write_end, ended=self.timeline.ended)
            )

    def stop(self, why: str = "stopped by its owner") -> None:
        """Kills the VM and returns when all of it is gone and told. Raises VirtmgrError unless it is running."""
        with self._changed:
            if not isinstance(self._state, Running):
                raise VirtmgrError("VM is not running", Refusal.NOT_RUNNING)
            running = self._state
            self._last_step = why
        running.process.kill()
        if running.monitor is not threading.current_thread():
            running.monitor.join()

    def kill(self) -> None:
        """Has the VM end without waiting for it; nothing if it does not run."""
        state = self.vm_state
        if isinstance(state, Running):
            state.process.kill()

    def release(self) -> None:
        """Lets go of everything, killing the VM if it runs. Once; it cannot be started any more."""
        with self._changed:
            if isinstance(self._state, NotStarted):
                self._state = Dead()
        try:
            self.stop()
        except VirtmgrError:
            pass
        self.callbacks.close()
        self._files.close()
        self.output.close()
        if self._ramdump is not None:
            self._ramdump.close()
        self.context.close()

    def _watch_exit(self, process: VmProcess, failure: Collector) -> None:
        """Whatever goes wrong here, want of memory too, the owner hears that the VM is dead."""
        reason, signal = DeathReason.INFRASTRUCTURE_ERROR, 0
        try:
            report = self._wait(process)
            signal = report.signal if report else 0
            self.metrics.ended()
            self.timeline.reached(LifecycleStep.DIED)
            self.context.stop_serving()
            self._set_dead()
            log.info("%s exited", self)
            reason = self._explain(report, failure)
        except Exception:
            log.exception("cannot tell how %s ended", self)
        finally:
            process.kill()
            self._set_dead()
            self.callbacks.notify_died(reason, CALLBACK_SECONDS)
        self.metrics.exited(reason, signal)
        remove_temporary_files(
            self.context.temporary_directory, keep=frozenset({IVmControl.CONTROL_SOCKET_NAME})
        )

    def _set_dead(self) -> None:
        with self._changed:
            self._state = Dead()
            self._changed.notify_all()

    def _explain(self, report: ExitReport | None, failure: Collector) -> DeathReason:
        """Why the VM died, which is kept for those who ask."""
        failure_text = self._failure_text(failure)
        self._file_ramdump()
        reason = death_reason(report, failure_text)
        self.output.wait_until_ended(OUTPUT_SECONDS)
        console, lost = self.output.recent_console(), self.output.lost()
        if lost:
            log.warning("output of %s is lost: %s", self, "; ".join(lost))
        with self._changed:
            last_step = self._last_step
            self._death_report = death_report(
                reason, last_step, report, failure_text, console, lost
            )
            self._death_report.timeline = told_timeline(self.timeline.picture())
        log.info("%s died: %s, %s%s", self, reason.name, last_step, _account(report))
        return reason

    def connect_input(self, process: VmProcess) -> None:
        """Has the guest's console read what is typed; a failure is logged, for a VM runs without."""
        try:
            self.output.connect_input(process.set_console_input)
        except (VmmControlError, OSError, RuntimeError) as e:
            log.warning("the console of %s takes no input: %s", self, e)

    def _wait(self, process: VmProcess) -> ExitReport | None:
        try:
            if self.output.is_typed_into:
                self.connect_input(process)
            if self._boot_timeout is not None:
                try:
                    return self._wait_for_boot(process, self._boot_timeout)
                except TimeoutError:
                    self._end_unless_booted(process, self._boot_timeout)
            return process.wait()
        except Exception:
            log.exception("cannot wait for the VMM of %s", self)
            process.kill()
            return None

    def _wait_for_boot(self, process: VmProcess, timeout: float) -> ExitReport:
        """TimeoutError once the payload was started, or the guest has had its time."""
        deadline = time.monotonic() + timeout
        while self.payload_state < PayloadState.STARTED:
            if self.spec.gdb_listener is None:
                left = deadline - time.monotonic()
            else:  # what counts is how long its debugger has let it run
                left = timeout - (process.guest_seconds() or 0)
            if left <= 0:
                break
            try:
                return process.wait(max(left, SHORTEST_WAIT_SECONDS))
            except TimeoutError:
                pass
        raise TimeoutError

    def _file_ramdump(self) -> None:
        if self._ramdump is None:
            return
        try:
            remark = self._ramdump.send(self.cid, host_vsock_dirs())
            if remark is not None:
                log.info("Ramdump of %s sent to tombstoned%s", self, remark and f"; {remark}")
        except OSError as e:
            log.error("Ramdump of %s is lost: %s", self, e)
        finally:
            self._ramdump.close()

    def _failure_text(self, failure: Collector) -> str:
        try:
            text = failure.finish(FAILURE_TEXT_SECONDS)
        except UnicodeDecodeError as e:
            log.error("the failure reason of %s is not UTF-8: %s", self, e)
            text = ""
        if not text and self.payload_state is PayloadState.HANGUP:
            return HANGUP
        return text

    def _end_unless_booted(self, process: VmProcess, timeout: float) -> None:
        with self._changed:
            if self._payload_state >= PayloadState.STARTED:
                return
            log.error("%s has not started its payload in %g s", self, timeout)
            self._payload_state = PayloadState.HANGUP
            self._last_step = f"killed for not having started its payload in {timeout:g} s"
        process.kill()

    # What the guest tells

    def start_phases_reported(self, report: GuestReport) -> None:
        """Once the payload may have the word, it could be the one that tells."""
        try:
            if self.payload_state is not PayloadState.STARTING:
                raise ReportError("the payload has been started")
            self.timeline.reported(report)
        except ReportError as e:
            log.debug("what %s tells of its start is left out: %s", self, e)

    def payload_started(self) -> None:
        with self._payload_events:
            self._advance(PayloadState.STARTED, "the payload was started")
            self.timeline.reached(LifecycleStep.PAYLOAD_STARTED)
            log.info("VM with CID %d started payload", self.cid)
            self.callbacks.notify_payload_started()
            self.metrics.booted()

    def payload_ready(self) -> None:
        with self._payload_events:
            self._advance(PayloadState.READY, "the payload was ready")
            self.timeline.reached(LifecycleStep.PAYLOAD_READY)
            log.info("VM with CID %d reported payload is ready", self.cid)
            self.callbacks.notify_payload_ready()

    def payload_finished(self, exit_code: int) -> None:
        with self._payload_events:
            self._advance(PayloadState.FINISHED, f"the payload finished with exit code {exit_code}")
            self.timeline.reached(LifecycleStep.PAYLOAD_FINISHED)
            log.info("VM with CID %d finished payload", self.cid)
            self.callbacks.notify_payload_finished(exit_code)

    def payload_failed(self, code: ErrorCode, message: str) -> None:
        with self._payload_events:
            self._advance(
                PayloadState.FINISHED, f"the guest told of an error, {code.name}: {message}"
            )
            self.timeline.reached(LifecycleStep.PAYLOAD_FAILED)
            log.info("VM with CID %d encountered an error", self.cid)
            self.callbacks.notify_error(code, message)

    def _advance(self, new: PayloadState, step: str) -> None:
        with self._changed:
            if new <= self._payload_state:
                raise RemoteException.illegal_state(
                    "Invalid payload state transition from"
                    f" {self._payload_state.title} to {new.title}"
                )
            self._payload_state = new
            self._last_step = step
            self._changed.notify_all()


def _account(report: ExitReport | None) -> str:
    """What the VMM said on its way out, for the log."""
    if report is None:
        return ""
    tail = f"; it said: {report.stderr_tail.strip()}" if report.stderr_tail.strip() else ""
    return f" (VMM: status {report.returncode}, {', '.join(report.events) or 'no events'}){tail}"
