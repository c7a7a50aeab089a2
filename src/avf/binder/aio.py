"""RPC Binder for asyncio: sessions are opened, and calls made, without the event loop waiting for them.

    async with await aio.connect(unix(path), incoming_threads=1) as session:
        counter = aio.proxy(await session.get_root(ICounter))
        total = await counter.add(5)

Each call occupies a thread while it lasts (`asyncio.to_thread`); a cancelled one goes on there, unwatched. Objects that
are served stay ordinary classes whose methods run in binder threads; `in_loop` brings what they say to the loop.
"""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from . import client, predefined
from .contract import Interface
from .objects import IBinder
from .transport import Connector
from .wire import DEFAULT_VERSION, FdMode

_I = TypeVar("_I", bound=IBinder)


class AsyncSession:
    """A `Session` whose waiting is awaited."""

    def __init__(self, session: client.Session) -> None:
        self.session = session

    @property
    def closed(self) -> bool:
        return self.session.closed

    async def get_root(self, interface: type[_I]) -> _I:
        return await asyncio.to_thread(self.session.get_root, interface)

    async def close(self) -> None:
        await asyncio.to_thread(self.session.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


async def connect(
    connector: Connector,
    *,
    fd_mode: FdMode = FdMode.NONE,
    incoming_threads: int = 0,
    max_outgoing: int = 10,
    max_version: int = DEFAULT_VERSION,
    timeout: float | None = None,
) -> AsyncSession:
    """`avf.binder.connect`, awaited."""
    session = await asyncio.to_thread(
        client.connect,
        connector,
        fd_mode=fd_mode,
        incoming_threads=incoming_threads,
        max_outgoing=max_outgoing,
        max_version=max_version,
        timeout=timeout,
    )
    return AsyncSession(session)


class AsyncProxy:
    """A binder object whose AIDL methods are coroutine functions."""

    def __init__(self, binder: Interface) -> None:
        contract = binder._contract
        if contract is None:
            raise TypeError(f"{type(binder).__name__} has no descriptor")
        self.binder = binder
        """The object itself, to be passed as an argument."""
        self._methods = {made.attribute: made for made in contract.methods().values()}

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name not in self._methods:
            raise AttributeError(f"{type(self.binder).__name__} has no AIDL method {name}")
        bound = getattr(self.binder, name)

        async def call(*args: Any, **named: Any) -> Any:
            return await asyncio.to_thread(bound, *args, **named)

        return call


def proxy(binder: Interface) -> AsyncProxy:
    """`binder`, with methods to be awaited."""
    return AsyncProxy(binder)


def in_loop(function: Callable[..., None]) -> Callable[..., None]:
    """A function to be called in any thread, by a death recipient or a callback, that runs `function` in this loop."""
    loop = asyncio.get_running_loop()

    def call(*args: Any) -> None:
        try:
            loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to be told

    return call


async def death(binder: IBinder) -> None:
    """Waits for the object's session to end. Raises as `link_to_death` does, but not for one that is over already."""
    ended = asyncio.Event()
    recipient = in_loop(ended.set)
    if not predefined.is_alive(binder):
        return
    predefined.link_to_death(binder, recipient)
    try:
        await ended.wait()
    finally:
        if not ended.is_set() and predefined.is_alive(binder):
            predefined.unlink_to_death(binder, recipient)
