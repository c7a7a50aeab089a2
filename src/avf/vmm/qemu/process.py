"""One running QEMU and its vsock device process, watched by one thread until both are gone."""

import logging
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from avf.confine import Child
from avf.disk import QemuDisk
from avf.vmm.base import (
    BalloonStats,
    ExitCause,
    ExitReport,
    NotSupported,
    VmmControlError,
    nobody_listens,
)
from avf.vmm.outlets import NOWHERE, Outlet
from avf.vmm.qemu.clock import GuestClock
from avf.vmm.qemu.devices import CONSOLE, input_backend
from avf.vmm.qemu.fork_point import ForkBroken, ForkPoint
from avf.vmm.qemu.outcome import Outcome
from avf.vmm.qemu.panic import PanicDump
from avf.vmm.tail import Tail
from avf.vmm.vsock_device import VsockDevice

if TYPE_CHECKING:
    import asyncio

    from avf.vmm.qemu.clone import Clone
    from avf.vmm.qemu.fork import ForkSource
    from avf.vmm.qemu.monitor import Monitor

T = TypeVar("T")

_log = logging.getLogger(__name__)

_REQUEST_TIMEOUT = 10.0
_DUMP_TIMEOUT = 600.0
_SAVE_TIMEOUT = 120.0
_FORK_TIMEOUT = 300.0
"""Its steps have limits of their own."""
_DEVICE_GRACE = 5.0
"""The device itself takes up to 2 s to deliver what the guest sent last."""
_HANG_UP_GRACE = 2.0
_QEMU_GRACE = 10.0
_ENDING_GRACE = 0.5
"""A QEMU that is killed hangs up a moment after it can no longer be reached by its number."""
_DRAIN_TIMEOUT = 2.0
_STATS_WAIT = 3.0
_STATS_POLL = 0.1
_BALLOON = "/machine/peripheral/balloon"
_UNKNOWN_STAT = (1 << 64) - 1


class _Link(Enum):
    """Whether requests can be made."""

    OPENING = "not open yet"
    OPEN = "open"
    CLOSED = "closed"


class QemuProcess:
    """A VmProcess. It owns its children, the QMP socket and the read end of their standard error."""

    def __init__(
        self,
        qemu: Child,
        device: VsockDevice | None,
        monitor: socket.socket,
        stderr: int,
        memory: int,
        *,
        console: Outlet = NOWHERE,
        frozen: bool = False,
        on_event: Callable[[str], None] | None = None,
        panic_dump: PanicDump | None = None,
        clone: "Clone | None" = None,
        forks: "ForkSource | None" = None,
        confinement: str = "none",
        ended: Callable[[str], None] = nobody_listens,
    ) -> None:
        """`memory`: the guest's, in bytes; `console`: where hvc0 writes to; `frozen`: a debugger lets the guest run;
        `panic_dump`: for a guest that QEMU pauses when it panics; `clone`: what QEMU, started for it, is to become;
        `forks`: what copying the guest takes, if it can be copied; `confinement`: how tight it is, for the report;
        `ended` is told of the phases of the start.
        """
        self._qemu = qemu
        self._device = device
        self._socket = monitor
        self._tail = Tail(stderr)
        self._memory = memory
        self._console = console
        self._frozen = frozen
        self._on_event = on_event
        self._panic_dump = panic_dump
        self._clone = clone
        self._forks = forks
        self._ended = ended
        self._panic: asyncio.Task[None] | None = None
        self._check: asyncio.Task[None] | None = None
        self._confinement = f"confinement: {confinement}"
        self._outcome = Outcome(debugged=frozen)
        self._outcome.note(self._confinement)
        self._clock = GuestClock()
        self._monitor: Monitor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link = threading.Condition()
        self._link_state = _Link.OPENING
        self._done = threading.Event()
        self._report = ExitReport(ExitCause.UNKNOWN, 0)
        self._thread = threading.Thread(target=self._watch, name="qemu-watch", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """See VmProcess.pid."""
        return self._qemu.pid

    def wait(self, timeout: float | None = None) -> ExitReport:
        """See VmProcess.wait."""
        if not self._done.wait(timeout):
            raise TimeoutError(f"QEMU {self.pid} is still running")
        if threading.current_thread() is not self._thread:
            self._thread.join()
        return self._report

    def kill(self) -> None:
        """See VmProcess.kill."""
        self._qemu.kill()

    def hold(self, held: bool) -> None:
        """Has QEMU stand still, or go on; it answers nothing meanwhile."""
        self._qemu.hold(held)

    def wait_until_started(self, timeout: float) -> bool:
        """Waits until the guest runs, a clone as itself; False if it never will. TimeoutError after `timeout` s."""
        with self._link:
            if not self._link.wait_for(lambda: self._link_state is not _Link.OPENING, timeout):
                raise TimeoutError(f"QEMU {self.pid} has not let its guest run")
        return self._outcome.started

    @property
    def was_interrupted(self) -> bool:
        """Of one that has ended, and that `kill` was not called for: whether somebody killed it or its device."""
        return self._outcome.interrupted(self._report.returncode)

    def belong(
        self,
        console: Outlet,
        on_event: Callable[[str], None] | None,
        panic_dump: PanicDump | None,
    ) -> None:
        """For a clone that has waited, before it is told: what it is from now on, as of __init__."""
        self._outcome = Outcome()
        self._outcome.note(self._confinement)
        self._clock = GuestClock()
        self._console = console
        self._on_event = on_event
        self._panic_dump = panic_dump

    def save(self, fd: int, disks: Sequence[QemuDisk], ejected: Sequence[str]) -> None:
        """Stops the guest for good and writes all of its state, memory included, to `fd`. Raises VmmControlError.

        `disks`: all that it has, each in the slot of its number; `ejected`: the devices that it has ejected.
        """
        from avf.vmm.qemu.clone import save_state
        from avf.vmm.qemu.hidden_disks import HiddenDisks
        from avf.vmm.qemu.unplugging import wait_until_gone

        async def save() -> None:
            await wait_until_gone(self._execute, ejected)
            await self._execute("stop")
            await HiddenDisks(self._execute, disks).hide()
            await save_state(self._execute, fd)

        self._request(save(), _SAVE_TIMEOUT)

    def fork(self) -> ForkPoint:
        """Copies the guest, which goes on afterwards. Raises NotSupported, ForkRefused or VmmControlError.

        If it cannot go on it is killed.
        """
        if self._forks is None:
            raise NotSupported("this VM was not started as one that can be copied")
        try:
            return self._request(self._forks.copy(self._execute), _FORK_TIMEOUT)
        except ForkBroken as error:
            self._outcome.note(str(error))
            self._outcome.lost = True
            self._qemu.kill()
            raise

    def guest_seconds(self) -> float | None:
        """See VmProcess.guest_seconds."""
        return self._clock.seconds()

    def set_balloon(self, size: int) -> None:
        """See VmProcess.set_balloon."""
        if not 0 <= size < self._memory:
            raise VmmControlError(f"cannot take {size} of {self._memory} bytes from the guest")
        self._request(self._execute("balloon", {"value": self._memory - size}))

    def balloon_stats(self) -> BalloonStats:
        """See VmProcess.balloon_stats."""
        return self._request(self._balloon_stats())

    def dump_memory(self, fd: int) -> None:
        """See VmProcess.dump_memory."""
        self._request(self._dump_memory(fd), _DUMP_TIMEOUT)

    def set_console_input(self, fd: int) -> None:
        """See VmProcess.set_console_input. Raises NotSupported if the console is a socket or nowhere."""
        if self._console.fd is None or self._console.is_socket:
            raise NotSupported("the console has no place for another's input")
        self._request(self._set_console_input(self._console.fd, fd))

    # What follows runs in the watching thread.

    def _watch(self) -> None:
        import asyncio

        try:
            self._qemu.settle()
            if self._device is not None:
                self._device.process.settle()
            asyncio.run(self._supervise())
        except Exception as error:  # noqa: BLE001  nothing may keep a VM from being waited for
            self._outcome.lost = True
            self._outcome.note(f"the watcher of this VM failed: {error!r}")
        finally:
            self._bury()

    async def _supervise(self) -> None:
        import asyncio

        loop = self._loop = asyncio.get_running_loop()
        qemu_gone = _when_readable(loop, self._qemu.fileno())
        device_gone = _when_readable(loop, self._device.process.fileno()) if self._device else None
        loop.add_reader(self._tail.fd, self._pump)
        talk = asyncio.create_task(self._talk())
        ends = {future for future in (qemu_gone, device_gone, talk) if future is not None}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        # On its way out QEMU hangs up on us and on the device, and may be the last to go.
        leaving = {qemu_gone, talk}
        await asyncio.wait(leaving, timeout=_HANG_UP_GRACE, return_when=asyncio.FIRST_COMPLETED)
        if talk.done() and talk.exception() is None:
            await asyncio.wait({qemu_gone}, timeout=_QEMU_GRACE)
        if not qemu_gone.done():
            who = "QEMU has closed its monitor" if talk.done() else "the vsock device has ended"
            self._outcome.lost = True
            self._report_line(f"{who}: killing the VM")
            self._qemu.kill()
            await qemu_gone
        await asyncio.wait({talk}, timeout=_DRAIN_TIMEOUT)
        talk.cancel()
        with suppress(asyncio.CancelledError):
            await talk
        if device_gone is not None and self._device is not None:
            await asyncio.wait({device_gone}, timeout=_DEVICE_GRACE)
            self._device.process.kill()
            await device_gone
        # From here on no request is taken; those already taken are cancelled when the loop ends.
        self._set_link(_Link.CLOSED)
        await asyncio.sleep(0)

    async def _talk(self) -> None:
        """Opens QMP, lets the guest run, and follows QEMU's events until it hangs up."""
        from avf.vmm.qemu.monitor import Monitor

        monitor = Monitor(self._on_qmp_event)
        try:
            await monitor.open(self._socket)
            self._monitor = monitor
            self._ended("monitor")
            await self._let_run(monitor)
        except VmmControlError as error:
            self._outcome.note(str(error))
            if not await _hangs_up(monitor):  # it lives but does not let the guest run
                if self._device is not None and self._device.process.has_ended():
                    self._outcome.lost = True
                else:
                    self._outcome.given_up = True
                self._qemu.kill()
        else:
            self._outcome.started = True
            self._report_line("started")
            self._set_link(_Link.OPEN)
        await monitor.closed()

    async def _let_run(self, monitor: "Monitor") -> None:
        if self._forks is not None:
            self._qemu.end_lending()
        if self._clone is None:
            await monitor.execute("query-status" if self._frozen else "cont")
            self._ended("resume")
            return
        try:
            await self._clone.begin(monitor.execute)
        finally:
            self._clone.close()

    def _set_link(self, state: "_Link") -> None:
        with self._link:
            self._link_state = state
            self._link.notify_all()

    def _bury(self) -> None:
        """Reaps what is left and makes the report."""
        self._set_link(_Link.CLOSED)
        if self._device is not None:
            self._device.process.abort()
            self._device.close()
        self._qemu.kill_unless_ended()
        returncode = self._qemu.reap()
        self._socket.close()
        if self._panic_dump is not None:
            self._panic_dump.close()
        if self._clone is not None:
            self._clone.close()
        if self._forks is not None:
            self._forks.close()
        self._tail.pump()
        self._report = ExitReport(
            self._outcome.cause(returncode), returncode, self._tail.close(), self._outcome.events
        )
        self._done.set()

    def _pump(self) -> None:
        more = self._tail.pump()
        pause = self._tail.pause()
        if self._loop is None or (more and not pause):
            return
        self._loop.remove_reader(self._tail.fd)
        if more:
            self._loop.call_later(pause, self._loop.add_reader, self._tail.fd, self._pump)

    def _on_qmp_event(self, name: str, data: Mapping[str, object]) -> None:
        self._clock.qmp_event(name)
        text = self._outcome.qmp_event(name, data)
        if text is not None:
            self._report_line(text)
        if self._outcome.flooded and not self._outcome.lost:
            self._outcome.lost = True
            self._report_line("QEMU tells of more events than anybody can follow: killing the VM")
            self._qemu.kill()
        self._follow_stop(name)

    def _follow_stop(self, event: str) -> None:
        """Ends a VM that QEMU has stopped and that will not go on."""
        import asyncio

        if event == "GUEST_PANICKED" and self._panic_dump is not None and self._panic is None:
            self._panic = asyncio.create_task(self._end_after_panic(self._panic_dump))
        if event == "STOP" and (self._check is None or self._check.done()):
            self._check = asyncio.create_task(self._end_if_broken())

    async def _end_after_panic(self, dump: PanicDump) -> None:
        """The guest is paused and will not go on."""
        import asyncio

        try:
            async with asyncio.timeout(_DUMP_TIMEOUT):
                self._report_line(await dump.save(self._execute))
            await self._execute("quit")
        except (OSError, VmmControlError) as error:
            self._report_line(f"after the panic: {error}")
            self._qemu.kill()

    async def _end_if_broken(self) -> None:
        """Under KVM a guest may do what the hypervisor cannot."""
        with suppress(VmmControlError):
            answer = await self._execute("query-status")
            if isinstance(answer, dict) and answer.get("status") == "internal-error":
                self._outcome.broken = True
                self._report_line("the hypervisor cannot go on: killing the VM")
                self._qemu.kill()

    def _report_line(self, text: str) -> None:
        self._outcome.note(text)
        if self._on_event is not None:
            try:
                self._on_event(text)
            except Exception:  # noqa: BLE001  another's fault must not end the watching
                _log.exception("an event handler of VM process %d failed", self.pid)

    # Requests: coroutines in the watching thread, called from any other.

    def _request(self, coroutine: Coroutine[Any, Any, T], timeout: float = _REQUEST_TIMEOUT) -> T:
        import asyncio
        from concurrent.futures import CancelledError

        if threading.current_thread() is self._thread:
            coroutine.close()
            raise VmmControlError("an event handler cannot make requests")
        with self._link:
            self._link.wait_for(lambda: self._link_state is not _Link.OPENING, timeout)
            if self._link_state is not _Link.OPEN or self._loop is None:
                coroutine.close()
                raise VmmControlError(f"QEMU's monitor is {self._link_state.value}")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise VmmControlError(f"QEMU did not answer within {timeout:.0f} s") from None
        except CancelledError:
            raise VmmControlError("QEMU has ended") from None

    async def _execute(
        self, command: str, arguments: Mapping[str, object] | None = None, fd: int | None = None
    ) -> object:
        if self._monitor is None:
            raise VmmControlError("QEMU is not listening")
        return await self._monitor.execute(command, arguments, fd)

    async def _balloon_stats(self) -> BalloonStats:
        import asyncio

        interval = {"path": _BALLOON, "property": "guest-stats-polling-interval", "value": 1}
        await self._execute("qom-set", interval)
        deadline = asyncio.get_running_loop().time() + _STATS_WAIT
        while True:
            answer = await self._execute("qom-get", {"path": _BALLOON, "property": "guest-stats"})
            if isinstance(answer, dict) and answer.get("last-update"):
                break
            if asyncio.get_running_loop().time() > deadline:
                raise NotSupported("no balloon driver answers in the guest")
            await asyncio.sleep(_STATS_POLL)
        balloon = await self._execute("query-balloon")
        actual = balloon.get("actual") if isinstance(balloon, dict) else None
        if not isinstance(actual, int):
            raise VmmControlError(f"query-balloon answered {balloon!r}")
        stats = answer.get("stats")
        return BalloonStats(
            self._memory - actual,
            total_memory=_stat(stats, "stat-total-memory"),
            available_memory=_stat(stats, "stat-available-memory"),
            free_memory=_stat(stats, "stat-free-memory"),
        )

    async def _set_console_input(self, output: int, fd: int) -> None:
        added = await self._execute("add-fd", {"opaque": "console input"}, fd)
        fdset = added.get("fdset-id") if isinstance(added, dict) else None
        if not isinstance(fdset, int):
            raise VmmControlError(f"add-fd answered {added!r}")
        try:
            backend = input_backend(output, fdset)
            await self._execute("chardev-change", {"id": CONSOLE, "backend": backend})
        finally:
            await self._execute("remove-fd", {"fdset-id": fdset})

    async def _dump_memory(self, fd: int) -> None:
        await self._execute("getfd", {"fdname": "dump"}, fd)
        await self._execute("dump-guest-memory", {"paging": False, "protocol": "fd:dump"})


async def _hangs_up(monitor: "Monitor") -> bool:
    """Whether QEMU has ended, or is about to."""
    import asyncio

    try:
        async with asyncio.timeout(_ENDING_GRACE):
            await monitor.closed()
    except TimeoutError:
        return False
    return True


def _stat(stats: object, name: str) -> int | None:
    value = stats.get(name) if isinstance(stats, dict) else None
    return value if isinstance(value, int) and 0 <= value < _UNKNOWN_STAT else None


def _when_readable(loop: "asyncio.AbstractEventLoop", fd: int) -> "asyncio.Future[None]":
    future: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        loop.remove_reader(fd)
        if not future.done():
            future.set_result(None)

    loop.add_reader(fd, readable)
    return future
