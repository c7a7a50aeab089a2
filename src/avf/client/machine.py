"""One VM, as its owner sees it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Generic, Self, TypeVar

from avf.aidl.virtualizationcommon import DeathReason as AidlDeathReason
from avf.aidl.virtualizationcommon import ErrorCode as AidlErrorCode
from avf.aidl.virtualizationservice import (
    IVirtualMachine,
    IVirtualMachineCallback,
    MemoryTrimLevel,
    VirtualMachineState,
)
from avf.aidl.vm_control import IVmControl
from avf.binder import (
    BinderClass,
    BinderError,
    Interface,
    Session,
    connect,
    interface_cast,
    link_to_death,
    release,
    unlink_to_death,
)
from avf.client.checks import check_text
from avf.client.config import FileSource, open_output
from avf.client.errors import ClientError, Died, Finished, ServiceDied, ServiceError, VmClosed
from avf.client.events import (
    DeathReason,
    ErrorCode,
    Event,
    PayloadError,
    PayloadFinished,
    PayloadReady,
    PayloadStarted,
    VmDied,
)
from avf.client.inside import GuestAccess
from avf.client.inspection import Inspection
from avf.client.ports import aidl_port
from avf.client.report import DeathReport
from avf.client.time_limit import TimeLimit, reason_of
from avf.client.watch import Listener, Watch

T = TypeVar("T", bound=Interface)
SERVICE_TIMEOUT = 10.0
REPORT_TIMEOUT = 5.0
"""How long the death of a VM is waited for whose payload has ended."""
_LAST_WORD_TIMEOUT = 5.0


class VirtualMachine(Inspection, GuestAccess):
    """Made by `VirtualizationService.create_vm`. Letting go of it - `close`, or the end of a `with` - kills the VM.

    What the service refuses raises Refused; if virtmgr is gone, ServiceDied; after `close`, VmClosed.
    Threads may share it.
    """

    def __init__(
        self,
        handle: IVirtualMachine,
        translated_errors: Callable[[], AbstractContextManager[None]],
        on_event: Listener | None = None,
        *,
        has_payload: bool = True,
    ) -> None:
        """`has_payload`: the guest tells when it starts one."""
        self._has_payload = has_payload
        self._handle: IVirtualMachine | None = handle
        self._closing = threading.Lock()
        self._started = False
        self._translated_errors = translated_errors
        self._watch = Watch()
        if on_event is not None:
            self._watch.add_listener(on_event)
        self._callback = _Callback(self._watch)
        self._on_death = _service_died(self._watch)
        self.cid = handle.get_cid()
        """Under which the guest is reached over vsock."""
        handle.register_callback(self._callback)
        link_to_death(handle, self._on_death)

    def start(self, *, timeout: float | None = None) -> None:
        """Returns when the VMM runs, not when the guest has booted.

        After `timeout` seconds the VM is killed and dies of DeathReason.TIMED_OUT. They count from the start of the
        payload, for what comes before has a limit of its own; without a payload from the start of the VM.
        """
        with self._using() as handle:
            limit = None if timeout is None else TimeLimit(timeout, self._kill_late)
            try:
                handle.start()
            except BaseException:
                if limit is not None:
                    limit.cancel()
                raise
            self._started = True
            if limit is not None:
                self._keep(limit)

    def _keep(self, limit: TimeLimit) -> None:
        self._callback.limit = limit

        def listen(event: Event) -> None:
            if isinstance(event, VmDied):
                limit.cancel()
            elif isinstance(event, PayloadStarted):
                limit.begin()

        self._watch.add_listener(listen)
        if not self._has_payload:
            limit.begin()

    def _kill_late(self) -> None:
        try:
            self.stop()
        except (BinderError, ClientError):
            pass  # it is gone already

    def stop(self) -> None:
        """Kills the VM; returns when all of it is gone."""
        with self._using() as handle:
            handle.stop()

    def fork(
        self,
        name: str = "",
        *,
        console: FileSource | None = None,
        log: FileSource | None = None,
        on_event: Listener | None = None,
    ) -> "VirtualMachine":
        """Copies the VM while it runs: a new VM, not started yet, that goes on from where this one is now.

        Only a VM of `AppConfig(forkable=True)` can be forked, while its payload runs, and no clone. It stands still
        meanwhile, and its connections over vsock end. The clone has a CID, random numbers, a boot ID and a clock of its
        own when its payload goes on, and that is told (`avf_payload.on_clone`); all else it has in common with this VM,
        secrets that the payload has read among them.

        `name`: of the clone; this VM's and a number if it is empty. Output and events as of
        `VirtualizationService.create_vm`.
        """
        check_text("name", name)
        with ExitStack() as files, self._inspected() as control:
            handle = control.fork(
                name, open_output(console, "console", files), open_output(log, "log", files)
            )
            clone = interface_cast(IVirtualMachine, handle)
            return VirtualMachine(clone, self._translated_errors, on_event)

    def trim_memory(self, level: MemoryTrimLevel) -> None:
        """Takes memory back from the guest, the more the more urgent `level` is."""
        with self._using() as handle:
            handle.on_trim_memory(level)

    @property
    def state(self) -> VirtualMachineState:
        """As the service sees it now; DEAD if the service is gone."""
        try:
            with self._using() as handle:
                return handle.get_state()
        except ServiceDied:
            return VirtualMachineState.DEAD

    @property
    def death_reason(self) -> DeathReason | None:
        """None while the VM has not died."""
        return self._watch.death_reason

    @property
    def death_report(self) -> DeathReport | None:
        """How the VM died, for people; None while it lives or if virtmgr cannot tell. To be asked before `close`."""
        try:
            with self._inspected() as control:
                report = control.get_death_report()
        except ServiceError:
            return None
        if report is None:
            return None
        told = DeathReport.from_aidl(report)
        limit = self._callback.limit
        if limit is None or (reason := reason_of(told.reason, limit)) == told.reason:
            return told
        step = f"killed because it had run for {limit.seconds:g} s, its time limit"
        return replace(told, reason=reason, last_step=step)

    @property
    def debugger_socket(self) -> str | None:
        """The path of the unix socket at which the VM waits for a debugger; None: it does not.

        In gdb: `target remote PATH`.
        """
        return self.details().debugger_socket

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Waits for the payload to say that it is ready. Raises TimedOut, Died or Finished, with the death report."""
        try:
            self._watch.wait_until_ready(timeout)
        except (Died, Finished) as error:
            self._watch.wait_for_death(REPORT_TIMEOUT)
            error.report = self._report_if_open()
            raise

    def _report_if_open(self) -> DeathReport | None:
        try:
            return self.death_report
        except VmClosed:
            return None

    def wait_for_death(self, timeout: float | None = None) -> DeathReason | None:
        """None after `timeout` seconds."""
        return self._watch.wait_for_death(timeout)

    def events(self) -> Iterator[Event]:
        """All that happened and will happen to this VM; blocks for the next event; VmDied is the last."""
        return self._watch.events()

    def add_listener(self, listener: Listener) -> None:
        """Calls `listener` for all that happened, then for all that will, from a thread of the session.

        What it raises is reported through `threading.excepthook`. It must not wait for a later event.
        """
        self._watch.add_listener(listener)

    def connect_vsock(self, port: int) -> socket.socket:
        """A stream to `port` (unsigned 32 bit, from 1024 on) of the running guest: AF_VSOCK, or a unix socket."""
        number = aidl_port(port)
        with self._using() as handle:
            stream = handle.connect_vsock(number)
        return socket.socket(fileno=stream.detach())

    def connect_shell(self) -> socket.socket:
        """A stream to the shell service of the guest, which only a debuggable one has."""
        with self._inspected() as control:
            stream = control.connect_shell()
        return socket.socket(fileno=stream.detach())

    def connect_service(
        self,
        port: int,
        interface: BinderClass[T],
        *,
        incoming_threads: int = 0,
        timeout: float | None = SERVICE_TIMEOUT,
    ) -> "GuestService[T]":
        """Connects to the RPC Binder server that the guest runs on `port`; its root is an `interface`.

        The guest may call objects given to it only during a call to it, unless there are `incoming_threads`.
        """
        session = connect(
            lambda: self.connect_vsock(port), incoming_threads=incoming_threads, timeout=timeout
        )
        try:
            return GuestService(session, session.get_root(interface))
        except BaseException:
            session.close()
            raise

    def close(self) -> None:
        """Gives the handle back, which kills the VM, and waits for its death. Whoever waits is told. Idempotent."""
        with self._closing:
            handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            unlink_to_death(handle, self._on_death)
        except BinderError:  # virtmgr's death has been told
            pass
        if self._callback.limit is not None:
            self._callback.limit.cancel()
        release(handle)
        if self._started and not self._watch.in_listener:
            self._watch.wait_for_death(_LAST_WORD_TIMEOUT)
        self._watch.deliver(VmDied(DeathReason.KILLED))

    @contextmanager
    def _using(self) -> Iterator[IVirtualMachine]:
        handle = self._handle
        if handle is None:
            raise VmClosed(f"the VM with CID {self.cid} was closed")
        with self._translated_errors():
            yield handle

    @contextmanager
    def _inspected(self) -> Iterator[IVmControl]:
        with self._using() as handle:
            yield interface_cast(IVmControl, handle.get_control())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class GuestService(Generic[T]):
    """A session with a server inside the guest. As a context manager it gives the root object and closes in the end."""

    def __init__(self, session: Session, root: T) -> None:
        self.root = root
        self._session = session

    def close(self) -> None:
        """Ends the session; may be called again."""
        self._session.close()

    def __enter__(self) -> T:
        return self.root

    def __exit__(self, *_exc: object) -> None:
        self.close()


class _Callback(IVirtualMachineCallback):
    """Tells a Watch what the service tells this."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.limit: TimeLimit | None = None

    def on_payload_started(self, cid: int) -> None:
        self._watch.deliver(PayloadStarted())

    def on_payload_ready(self, cid: int) -> None:
        self._watch.deliver(PayloadReady())

    def on_payload_finished(self, cid: int, exit_code: int) -> None:
        self._watch.deliver(PayloadFinished(exit_code))

    def on_error(self, cid: int, error_code: AidlErrorCode, message: str) -> None:
        self._watch.deliver(PayloadError(ErrorCode(int(error_code)), message))

    def on_died(self, cid: int, reason: AidlDeathReason) -> None:
        self._watch.deliver(VmDied(reason_of(DeathReason(int(reason)), self.limit)))


def _service_died(watch: Watch) -> Callable[[], None]:
    return lambda: watch.deliver(VmDied(DeathReason.VIRTUALIZATION_SERVICE_DIED))
