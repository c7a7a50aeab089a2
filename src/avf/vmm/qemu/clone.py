"""From a running guest to a template, and from a template to a guest of its own.

See `avf.guest.template` for what guest and host tell each other.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence

from avf.vmm.base import VmmControlError, nobody_listens
from avf.vmm.qemu.attach import Execute
from avf.vmm.qemu.devices import CLONE_IS_ITSELF, Device
from avf.vmm.qemu.sharing import Sharing

_SEED_SIZE = 32
_STATE = "state"
_NO_LIMIT = 1 << 50
"""Bytes a second at which QEMU may save; it would take its time for the sake of a network."""
_POLL = 0.002
_MAX_LINE = 256


class Clone:
    """What one fresh QEMU is to become a clone of."""

    def __init__(
        self,
        state: int,
        port: socket.socket,
        devices: Sequence[Device],
        ended: Callable[[str], None] = nobody_listens,
        sharing: Sharing | None = None,
    ) -> None:
        """Takes over `state`, a template's, and `port`, the host's end of the template's port.

        `ended` is told of each phase as it ends; `sharing`: if its memory begins as pages shared with other clones.
        """
        self._state: int | None = state
        self._port = port
        self._devices = devices
        self._ended = ended
        self._sharing = sharing
        port.setblocking(False)

    async def begin(self, execute: Execute) -> None:
        """Loads the state, adds the devices, lets the guest run and returns once it has taken an identity of its own.

        It may take for ever, unless QEMU ends. Raises VmmControlError.
        """
        try:
            await self._load(execute)
            self._ended("state")
            await self._add_devices(execute)
            self._ended("devices")
            await self._give_identity(execute)
            self._ended("identity")
        except OSError as error:
            raise VmmControlError(f"the clone cannot be given an identity: {error}") from error

    async def _load(self, execute: Execute) -> None:
        assert self._state is not None
        if self._sharing is not None:
            self._sharing.settle()
        await load_state(execute, self._state)

    async def _add_devices(self, execute: Execute) -> None:
        for device in self._devices:
            await execute("device_add", dict(device))

    def _identity(self) -> str:
        """What the clone is told."""
        return f"identity {new_seed()} {time.time_ns()}"

    async def _give_identity(self, execute: Execute) -> None:
        answer = await self._ask(execute, self._identity())
        if answer != CLONE_IS_ITSELF:
            raise VmmControlError(f"instead of taking an identity the clone said {answer!r}")

    async def _ask(self, execute: Execute, line: str) -> bytes:
        """Lets the guest run, and returns its answer, a line as far as it is one."""
        await say(self._port, line)
        await execute("cont")
        return await hear(self._port)

    def close(self) -> None:
        """Idempotent."""
        if self._state is not None:
            os.close(self._state)
            self._state = None
        if self._sharing is not None:
            self._sharing.close()
        self._port.close()


async def say(port: socket.socket, line: str) -> None:
    """To the guest, over a port that does not block. Raises OSError."""
    await asyncio.get_running_loop().sock_sendall(port, f"{line}\n".encode())


async def hear(port: socket.socket) -> bytes:
    """What the guest says: a line as far as it is one. Raises OSError."""
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\n"):
        piece = await loop.sock_recv(port, _MAX_LINE)
        line += piece
        if not piece or len(line) > _MAX_LINE:
            break
    return line


def new_seed() -> str:
    """For a guest's random numbers, in hex."""
    return secrets.token_hex(_SEED_SIZE)


async def load_state(execute: Execute, fd: int) -> None:
    """Loads a saved state into a QEMU that was started for it and stays paused. Raises VmmControlError.

    A state that does not fit makes QEMU end, and say why on its standard error.
    """
    await execute("getfd", {"fdname": _STATE}, fd)
    await execute("migrate-incoming", {"uri": f"fd:{_STATE}"})
    while await _answer(execute, "query-status") == "inmigrate":
        await asyncio.sleep(_POLL)


async def leave_memory_out(execute: Execute) -> None:
    """Has states saved, and loaded, without the memory that is a file others may map. Raises VmmControlError."""
    capability = {"capability": "x-ignore-shared", "state": True}
    await execute("migrate-set-capabilities", {"capabilities": [capability]})


async def save_state(execute: Execute, fd: int) -> None:
    """Stops the guest and writes its whole state to `fd`. Raises VmmControlError."""
    await execute("stop")
    await execute("migrate-set-parameters", {"max-bandwidth": _NO_LIMIT})
    await execute("getfd", {"fdname": _STATE}, fd)
    await execute("migrate", {"uri": f"fd:{_STATE}"})
    while (status := await _answer(execute, "query-migrate")) != "completed":
        if status in ("failed", "cancelled", "cancelling"):
            raise VmmControlError(f"QEMU cannot save the guest: {status}")
        await asyncio.sleep(_POLL)


async def _answer(execute: Execute, command: str) -> object:
    answer = await execute(command)
    return answer.get("status") if isinstance(answer, dict) else None
