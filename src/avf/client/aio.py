"""The client for asyncio: the same objects and words as `avf.client`, with calls awaited.

    async with connect() as service, await service.create_vm(config) as vm:
        await vm.start()
        await vm.wait_until_ready(timeout=60)
        reader, writer = await vm.open_vsock(5678)

Calls run in threads, for they are answered in milliseconds; waiting does not, so a thousand VMs can be waited for.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Self, TypeVar

from avf.aidl.virtualizationservice import (
    CpuTopology,
    MemoryTrimLevel,
    PartitionType,
    VirtualMachineConfig,
    VirtualMachineState,
)
from avf.binder import BinderClass, Interface
from avf.client import connection, machine
from avf.client.aio_command import GuestCommand, with_streams
from avf.client.config import AppConfig, DebugLevel, FileSource, RawConfig
from avf.client.connection import START_TIMEOUT, VmInfo
from avf.client.errors import Died, Finished, ShellFailed, VmClosed
from avf.client.events import DeathReason, Event, VmDied
from avf.client.history import MetricsSample
from avf.client.inside import OUTPUT_LIMIT, CompletedCommand, GuestAccess, StrPath
from avf.client.lifecycle import Lifecycle
from avf.client.machine import REPORT_TIMEOUT, SERVICE_TIMEOUT, GuestService
from avf.client.pool import PoolStatus
from avf.client.report import DeathReport
from avf.client.timeline import Timeline

__all__ = ["GuestCommand", "VirtualMachine", "VirtualizationService", "connect"]

R = TypeVar("R")
T = TypeVar("T", bound=Interface)


@asynccontextmanager
async def connect(
    *,
    command: Sequence[str] | None = None,
    forward_log: bool = False,
    timeout: float = START_TIMEOUT,
    warm: int = 0,
) -> AsyncIterator["VirtualizationService"]:
    """As `avf.client.connect`."""
    service = await _in_thread(
        lambda: connection.connect(
            command=command, forward_log=forward_log, timeout=timeout, warm=warm
        ),
        discard=lambda service: service.close(),
    )
    try:
        yield VirtualizationService(service)
    finally:
        await _in_thread(service.close)


class VirtualizationService:
    """As `avf.client.VirtualizationService`; belongs to the event loop that it was made in."""

    def __init__(self, service: connection.VirtualizationService) -> None:
        self._service = service

    @property
    def pid(self) -> int:
        """Of virtmgr."""
        return self._service.pid

    async def create_vm(
        self,
        config: AppConfig | RawConfig | VirtualMachineConfig,
        *,
        console: FileSource | None = None,
        console_in: FileSource | None = None,
        log: FileSource | None = None,
        payload_stderr: FileSource | None = None,
    ) -> "VirtualMachine":
        """Makes a VM without starting it."""
        vm = await _in_thread(
            lambda: self._service.create_vm(
                config,
                console=console,
                console_in=console_in,
                log=log,
                payload_stderr=payload_stderr,
            ),
            discard=lambda vm: vm.close(),
        )
        return VirtualMachine(vm)

    async def keep_clones_waiting(
        self,
        count: int,
        *,
        debug_level: DebugLevel = DebugLevel.NONE,
        memory_mib: int | None = None,
        cpu_topology: CpuTopology = CpuTopology.ONE_CPU,
    ) -> None:
        """Has `count` clones of booted guests wait, which the next VMs of apps begin as; 0 ends them."""
        await _in_thread(
            lambda: self._service.keep_clones_waiting(
                count, debug_level=debug_level, memory_mib=memory_mib, cpu_topology=cpu_topology
            )
        )

    async def pool_status(self) -> PoolStatus:
        """How many clones wait, and why there are not more."""
        return await _in_thread(self._service.pool_status)

    async def initialize_writable_partition(
        self, image: FileSource, size: int, type: PartitionType = PartitionType.RAW
    ) -> None:
        """Makes `image` a partition image of `size` bytes or a little more.

        It must exist and be empty, or be such an image already.
        """
        await _in_thread(lambda: self._service.initialize_writable_partition(image, size, type))

    async def create_or_update_idsig_file(self, apk: FileSource, idsig: FileSource) -> None:
        """Brings `idsig`, which must exist, up to date with the APK."""
        await _in_thread(lambda: self._service.create_or_update_idsig_file(apk, idsig))

    async def forget_instance(self, instance_image: FileSource) -> None:
        """Has the host forget the instance with that image, so that an older copy of it is taken from then on."""
        await _in_thread(lambda: self._service.forget_instance(instance_image))

    async def debug_list_vms(self) -> list[VmInfo]:
        """The VMs of all clients on this host, by CID."""
        return await _in_thread(self._service.debug_list_vms)


class VirtualMachine:
    """As `avf.client.VirtualMachine`; belongs to the event loop that it was made in."""

    def __init__(self, vm: machine.VirtualMachine) -> None:
        self._vm = vm
        self.cid = vm.cid
        self._lifecycle = Lifecycle()
        self._changed = asyncio.Event()
        vm.add_listener(_hand_over(asyncio.get_running_loop(), self._on_event))

    def _on_event(self, event: Event) -> None:
        self._lifecycle.accept(event)
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_for(self, condition: Callable[[], bool], timeout: float | None) -> None:
        """Returns when `condition` holds, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            pass

    async def start(self, *, timeout: float | None = None) -> None:
        """Returns when the VMM runs, not when the guest has booted. `timeout`: as of `avf.client`."""
        await _in_thread(lambda: self._vm.start(timeout=timeout))

    async def fork(
        self,
        name: str = "",
        *,
        console: FileSource | None = None,
        log: FileSource | None = None,
    ) -> "VirtualMachine":
        """As of `avf.client`."""
        clone = await _in_thread(
            lambda: self._vm.fork(name, console=console, log=log), discard=lambda vm: vm.close()
        )
        return VirtualMachine(clone)

    async def stop(self) -> None:
        """Kills the VM; returns when all of it is gone."""
        await _in_thread(self._vm.stop)

    async def trim_memory(self, level: MemoryTrimLevel) -> None:
        """Takes memory back from the guest, the more the more urgent `level` is."""
        await _in_thread(lambda: self._vm.trim_memory(level))

    async def state(self) -> VirtualMachineState:
        """As the service sees it now; DEAD if the service is gone."""
        return await _in_thread(lambda: self._vm.state)

    @property
    def death_reason(self) -> DeathReason | None:
        """None while the VM has not died."""
        return self._lifecycle.death_reason

    async def death_report(self) -> DeathReport | None:
        """How the VM died, for people; None while it lives or if virtmgr cannot tell. To be asked before `close`."""
        return await _in_thread(lambda: self._vm.death_report)

    async def timeline(self) -> Timeline:
        """Where the time of the VM's start went, as far as it has come. To be asked before `close`."""
        return await _in_thread(self._vm.timeline)

    async def history(self, after: float | None = None) -> list[MetricsSample]:
        """What the VM has used since its start, as of `avf.client`. To be asked before `close`."""
        return await _in_thread(lambda: self._vm.history(after))

    async def wait_until_ready(self, timeout: float | None = None) -> None:
        """Waits for the payload to say that it is ready. Raises TimedOut, Died or Finished, with the death report."""
        await self._wait_for(lambda: self._lifecycle.settled, timeout)
        error = self._lifecycle.not_ready()
        if isinstance(error, Died | Finished):
            await self.wait_for_death(REPORT_TIMEOUT)
            with suppress(VmClosed):
                error.report = await self.death_report()
        if error is not None:
            raise error

    async def wait_for_death(self, timeout: float | None = None) -> DeathReason | None:
        """None after `timeout` seconds."""
        await self._wait_for(lambda: self._lifecycle.death_reason is not None, timeout)
        return self._lifecycle.death_reason

    async def events(self) -> AsyncIterator[Event]:
        """All that happened and will happen to this VM; VmDied is the last."""
        seen = 0
        while True:
            await self._wait_for(lambda: len(self._lifecycle.events) > seen, None)  # noqa: B023
            event = self._lifecycle.events[seen]
            yield event
            if isinstance(event, VmDied):
                return
            seen += 1

    async def connect_vsock(self, port: int) -> socket.socket:
        """A non-blocking stream to `port` of the running guest."""
        stream = await _in_thread(
            lambda: self._vm.connect_vsock(port), discard=lambda stream: stream.close()
        )
        stream.setblocking(False)
        return stream

    async def open_vsock(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A stream to `port` of the running guest, as `asyncio.open_connection` gives one."""
        stream = await self.connect_vsock(port)
        try:
            return await asyncio.open_connection(sock=stream)
        except BaseException:
            stream.close()
            raise

    async def connect_service(
        self,
        port: int,
        interface: BinderClass[T],
        *,
        incoming_threads: int = 0,
        timeout: float | None = SERVICE_TIMEOUT,
    ) -> GuestService[T]:
        """Connects to the RPC Binder server that the guest runs on `port`; its methods block, as of `avf.binder`."""
        return await _in_thread(
            lambda: self._vm.connect_service(
                port, interface, incoming_threads=incoming_threads, timeout=timeout
            ),
            discard=lambda service: service.close(),
        )

    async def run(
        self,
        command: Sequence[StrPath],
        *,
        input: bytes = b"",
        root: bool = False,
        environment: Mapping[str, str] | None = None,
        folder: StrPath | None = None,
        timeout: float | None = None,
        check: bool = False,
        output_limit: int = OUTPUT_LIMIT,
    ) -> CompletedCommand:
        """Runs a command in the guest, as of `avf.client`. If the waiting is cancelled, the command is hung up."""
        guest = _Cancellable(self._vm)
        call = partial(
            guest.run,
            command,
            input=input,
            root=root,
            environment=environment,
            folder=folder,
            timeout=timeout,
            check=check,
            output_limit=output_limit,
        )
        return await guest.in_thread(call)

    async def shell(
        self,
        command: Sequence[StrPath] = (),
        *,
        root: bool = False,
        environment: Mapping[str, str] | None = None,
        folder: StrPath | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> GuestCommand:
        """Starts a command in the guest, or a shell, as of `avf.client`; its streams are asyncio's."""
        call = partial(
            self._vm.shell,
            command,
            root=root,
            environment=environment,
            folder=folder,
            terminal=terminal,
        )
        return await with_streams(await _in_thread(call, discard=lambda started: started.close()))

    async def push(self, *sources: StrPath, target: StrPath, root: bool = False) -> list[str]:
        """Copies into the guest, as of `avf.client`. Cancelled, it leaves nothing of a copy behind."""
        guest = _Cancellable(self._vm)
        return await guest.in_thread(partial(guest.push, *sources, target=target, root=root))

    async def pull(self, *sources: StrPath, target: StrPath, root: bool = False) -> list[str]:
        """Copies out of the guest, as of `avf.client`. Cancelled, it leaves nothing of a copy behind."""
        guest = _Cancellable(self._vm)
        return await guest.in_thread(partial(guest.pull, *sources, target=target, root=root))

    async def close(self) -> None:
        """Gives the handle back, which kills the VM, and waits for its death. Whoever waits is told. Idempotent."""
        await _in_thread(self._vm.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()


class _Cancellable(GuestAccess):
    """A guest whose streams are cut once nobody waits any more for what a thread does with them."""

    def __init__(self, vm: machine.VirtualMachine) -> None:
        self._vm = vm
        self._lock = threading.Lock()
        self._stream: socket.socket | None = None
        self._cancelled = False

    def connect_shell(self) -> socket.socket:
        stream = self._vm.connect_shell()
        with self._lock:
            if self._cancelled:
                stream.close()
                raise ShellFailed("nobody waits for it any more")
            if self._stream is not None:
                self._stream.close()
            self._stream = stream.dup()
        return stream

    async def in_thread(self, call: Callable[[], R]) -> R:
        try:
            return await _in_thread(call)
        except asyncio.CancelledError:
            self._cut()
            raise
        finally:
            with self._lock:
                stream, self._stream = self._stream, None
            if stream is not None:
                stream.close()

    def _cut(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._stream is not None:
                with suppress(OSError):  # it is over
                    self._stream.shutdown(socket.SHUT_RDWR)


def _hand_over(
    loop: asyncio.AbstractEventLoop, receive: Callable[[Event], None]
) -> Callable[[Event], None]:
    def listener(event: Event) -> None:
        try:
            loop.call_soon_threadsafe(receive, event)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    return listener


async def _in_thread(call: Callable[[], R], discard: Callable[[R], None] | None = None) -> R:
    """The result of `call`. If the waiting is cancelled, the call still ends, and `discard` gets what it made."""
    outcome: Future[R] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001
            outcome.set_exception(error)

    asyncio.get_running_loop().run_in_executor(None, copy_context().run, run)
    try:
        return await asyncio.wrap_future(outcome)
    except asyncio.CancelledError:
        if discard is not None:
            outcome.add_done_callback(lambda done: done.exception() or discard(done.result()))
        raise
