"""Copies a guest that runs on afterwards, and makes VMs of the copies. See `avf.guest.forks` for what guest and host
tell each other.

What QEMU 7.2 cannot save is not there when it saves: the guest ejects its vsock device and gets it back afterwards
(vhost-user-vsock is unmigratable), and while the guest stands still its disks are empty ones of the same size (a vmdk
node blocks migration as long as it exists; nothing but the guest's own driver is lost with a device's node).
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from avf.disk import QemuDisk
from avf.vmm.base import VmmControlError
from avf.vmm.qemu.attach import Execute
from avf.vmm.qemu.clone import Clone, hear, leave_memory_out, new_seed, save_state, say
from avf.vmm.qemu.command import Host
from avf.vmm.qemu.devices import (
    FORK_GOES_ON,
    FORK_IS_QUIET,
    FORK_IS_REFUSED,
    Device,
)
from avf.vmm.qemu.fork_point import ForkBroken, ForkPoint, ForkRefused
from avf.vmm.qemu.hidden_disks import HiddenDisks
from avf.vmm.qemu.kept_disks import KeptDisks
from avf.vmm.qemu.memory_copy import copy_memory
from avf.vmm.qemu.unfold import UnfoldedTemplate, memory_file, seal
from avf.vmm.qemu.unplugging import wait_until_gone

_QUIET_SECONDS = 30.0
_GO_ON_SECONDS = 60.0
"""Under emulation on a busy host."""


class ForkSource:
    """What copying one running guest takes. Its disks are read-only."""

    def __init__(
        self,
        port: socket.socket,
        memory: int,
        disks: tuple[QemuDisk, ...],
        vsock: Device,
        kept: KeptDisks,
        host: Host,
    ) -> None:
        """Takes over `port`, the host's end, `memory`, the file that the guest's memory is, and `kept`.

        `vsock`: the device, in its slot; `disks` are in the slots before it.
        """
        self._port = port
        self._memory = memory
        self._disks = disks
        self._vsock = vsock
        self._kept = kept
        self._host = host
        self._has_vsock = True
        self._problem: str | None = None
        self._one_at_a_time = asyncio.Lock()
        port.setblocking(False)

    async def copy(self, execute: Execute) -> ForkPoint:
        """Returns when the guest goes on. Raises ForkRefused, ForkBroken, or VmmControlError if it was not copied."""
        async with self._one_at_a_time:
            if self._problem is not None:
                raise VmmControlError(self._problem)
            try:
                await self._hold_guest(execute)
                with ExitStack() as undo:
                    async with self._standing_still(execute):
                        point = await self._copy(execute)
                        undo.callback(point.close)
                    undo.pop_all()
                    return point
            except OSError as error:
                raise VmmControlError(f"the guest cannot be copied: {error}") from error

    async def _hold_guest(self, execute: Execute) -> None:
        try:
            async with asyncio.timeout(_QUIET_SECONDS):
                await say(self._port, "fork")
                answer = await hear(self._port)
        except TimeoutError:
            self._problem = "the guest has not answered when it was to be copied"
            await say(self._port, _go())  # it goes on whenever it has got so far
            raise VmmControlError(self._problem) from None
        if answer.startswith(FORK_IS_REFUSED):
            reason = answer[len(FORK_IS_REFUSED) :].decode("ascii", "replace").strip()
            raise ForkRefused(reason)
        if answer != FORK_IS_QUIET:
            self._problem = f"instead of standing still the guest said {answer!r}"
            raise VmmControlError(self._problem)

    @asynccontextmanager
    async def _standing_still(self, execute: Execute) -> AsyncIterator[None]:
        """The guest has no vsock device, and does not run; in the end it goes on."""
        try:
            await self._await_ejection(execute)
            await execute("stop")
            yield
        finally:
            try:
                await self._go_on(execute)
            except (VmmControlError, OSError, TimeoutError) as error:
                raise ForkBroken(f"the guest cannot go on after it was copied: {error}") from error

    async def _await_ejection(self, execute: Execute) -> None:
        try:
            await wait_until_gone(execute, [self._vsock["id"]])
        except VmmControlError as error:
            self._problem = str(error)
            raise
        self._has_vsock = False

    async def _go_on(self, execute: Execute) -> None:
        if not self._has_vsock:
            await execute("device_add", dict(self._vsock))
            self._has_vsock = True
        await execute("cont")
        async with asyncio.timeout(_GO_ON_SECONDS):
            await say(self._port, _go())
            answer = await hear(self._port)
        if answer != FORK_GOES_ON:
            raise VmmControlError(f"instead of going on it said {answer!r}")

    async def _copy(self, execute: Execute) -> ForkPoint:
        with ExitStack() as undo:
            state = memory_file("avf-state", undo)
            memory = memory_file("avf-fork", undo)
            async with self._without_disks(execute):
                await leave_memory_out(execute)
                await save_state(execute, state)
            for _ in copy_memory(self._memory, memory):
                await asyncio.sleep(0)  # others have work to do
            seal(memory, state)
            kept = self._kept.copy()
            undo.pop_all()
        return ForkPoint(UnfoldedTemplate(memory, state), kept, self._host)

    @asynccontextmanager
    async def _without_disks(self, execute: Execute) -> AsyncIterator[None]:
        hidden = HiddenDisks(execute, self._disks)
        try:
            await hidden.hide()
            yield
        finally:
            await hidden.show()

    def close(self) -> None:
        """Idempotent."""
        self._port.close()
        self._kept.close()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1


class Fork(Clone):
    """What a fresh QEMU is to become a copy of a guest that runs."""

    number = 0
    """To be set: from 1, no other copy of the same guest has it."""

    async def _load(self, execute: Execute) -> None:
        await leave_memory_out(execute)
        await super()._load(execute)

    def _identity(self) -> str:
        return f"clone {self.number} {new_seed()} {time.time_ns()}"


def _go() -> str:
    return f"go {time.time_ns()}"
