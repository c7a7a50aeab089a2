"""QMP to one QEMU, inside one event loop. Importing this module is slow: import it when a VM starts."""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp.message import Message

from avf.vmm.base import NotSupported, VmmControlError

_log = logging.getLogger("avf.vmm.qmp")
_log.setLevel(logging.CRITICAL)  # every failure is raised; the library would also print it

_MAX_MESSAGE = 1 << 20
_NOT_SUPPORTED = ("DeviceNotActive", "DeviceNotFound", "KVMMissingCap")


class _Sink(EventListener):
    """Hands events on and, unlike its parent, remembers none: a guest can cause any number of them."""

    def __init__(self, on_event: Callable[[str, Mapping[str, object]], None]) -> None:
        super().__init__()
        self._on_event = on_event

    async def put(self, event: Message) -> None:
        data = event.get("data")
        self._on_event(str(event.get("event")), data if isinstance(data, dict) else {})


class Monitor:
    """`on_event` is called in the loop, in order, and for every event before `closed` returns."""

    def __init__(self, on_event: Callable[[str, Mapping[str, object]], None]) -> None:
        self._client = QMPClient()
        self._client.logger = _log
        self._client.readbuflen = _MAX_MESSAGE
        self._client.events.event_filter = lambda _: False  # else it would keep every event
        self._client.register_listener(_Sink(on_event))
        self._fd_lock = asyncio.Lock()

    async def open(self, sock: socket.socket) -> None:
        """Takes over the connected `sock`. Raises VmmControlError if QEMU hangs up."""
        try:
            await self._client.connect(sock)
        except ConnectError as error:
            raise VmmControlError(f"no QMP: {error}") from error

    @property
    def is_open(self) -> bool:
        return self._client.runstate is Runstate.RUNNING

    async def closed(self) -> None:
        """Waits until QEMU has hung up, then releases the connection."""
        while self.is_open:
            await self._client.runstate_changed()
        if self._client.runstate is Runstate.DISCONNECTING:
            # How the connection broke does not matter, only that it did.
            with suppress(EOFError, OSError, QMPError):
                await self._client.disconnect()

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, fd: int | None = None
    ) -> object:
        """Runs `command`, sending `fd` along with it. Raises NotSupported or VmmControlError."""
        given = dict(arguments) if arguments else None
        try:
            if fd is None:
                return await self._client.execute(command, given)
            async with self._fd_lock:  # QEMU drops a descriptor that another overtakes
                self._client.send_fd_scm(fd)
                return await self._client.execute(command, given)
        except ExecuteError as error:
            kind = NotSupported if error.error_class in _NOT_SUPPORTED else VmmControlError
            raise kind(f"QEMU refused {command}: {error}") from error
        except (QMPError, OSError) as error:
            raise VmmControlError(f"{command}: QEMU is gone: {error}") from error
