"""What a QEMU becomes that is to be a clone of nobody yet."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Future

from avf.causes import words
from avf.vmm.base import VmmControlError
from avf.vmm.qemu.attach import Belongings, Execute, attach
from avf.vmm.qemu.clone import Clone, new_seed
from avf.vmm.qemu.devices import CLONE_HAS_REHEARSED
from avf.vmm.qemu.sharing import Sharing


class WaitingClone(Clone):
    """What a fresh QEMU becomes in two steps: up to `ready`, and once `owner` is known."""

    def __init__(
        self,
        state: int,
        port: socket.socket,
        sharing: Sharing | None = None,
    ) -> None:
        super().__init__(state, port, (), sharing=sharing)
        self.ready: Future[None] = Future()
        self.owner: Future[Belongings] = Future()

    def belong(self, belongings: Belongings, ended: Callable[[str], None]) -> None:
        """It is told whose it is; `ended` hears of each phase from now on. Raises InvalidStateError if it has ended."""
        self._ended = ended
        self.owner.set_result(belongings)

    async def begin(self, execute: Execute) -> None:
        """See Clone.begin; between loading the state and adding the devices it waits for its owner."""
        try:
            await super().begin(execute)
        except BaseException as error:
            if not self.ready.done():
                self.ready.set_exception(VmmControlError(words(error) or "QEMU has ended"))
            raise

    async def _load(self, execute: Execute) -> None:
        await super()._load(execute)
        answer = await self._ask(execute, f"rehearse {new_seed()}")
        if answer != CLONE_HAS_REHEARSED:
            raise VmmControlError(f"instead of rehearsing the clone said {answer!r}")
        await execute("stop")
        self.ready.set_result(None)

    async def _add_devices(self, execute: Execute) -> None:
        await attach(execute, await asyncio.wrap_future(self.owner))
