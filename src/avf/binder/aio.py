"""RPC Binder for asyncio: sessions, servers, objects and calls, without the event loop waiting for them.

    class Counter:
        async def add(self, amount: int) -> int: ...

    async with aio.Server(aio.serving(ICounter, Counter())) as server:
        server.start(listener)

    async with await aio.connect(unix(path), incoming_threads=1) as session:
        counter = aio.proxy(await session.get_root(ICounter))
        total = await counter.add(5)

What is awaited means what the blocking call means. Each call occupies a thread while it lasts; a cancelled one goes on
there, unwatched, and its session stays usable. A coroutine that serves a call may await calls to its caller, which take
the way nested calls take. Objects may also be ordinary ones whose methods run in binder threads; `in_loop` brings what
they say to the loop.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from . import client, predefined
from .contract import Interface
from .in_loop import _pool, calling_peer, cancel_served, in_thread, loop_callback, serving
from .objects import IBinder
from .server import Root
from .server import Server as BlockingServer
from .transport import Connector
from .wire import DEFAULT_VERSION, FdMode

__all__ = [
    "AsyncProxy",
    "AsyncSession",
    "Server",
    "calling_peer",
    "connect",
    "death",
    "in_loop",
    "in_thread",
    "proxy",
    "serving",
]

_I = TypeVar("_I", bound=IBinder)


async def _end(
    end: Callable[[], None],
    sessions: Iterable[object],
    threads: Callable[[], Iterable[threading.Thread]],
) -> None:
    """Waits for `end`, which ends sessions and waits for threads, and has the coroutines cancelled that serve them.

    If this is cancelled the ending goes on.
    """
    sessions = list(sessions)
    ending = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(_pool, end))
    while not ending.done():
        await asyncio.wait({ending}, timeout=0.02)
        cancel_served(sessions, threads())
    ending.result()


class Server:
    """`avf.binder.Server`, awaited; takes the same options. Leaving its context shuts it down."""

    def __init__(self, root: Root, **options: Any) -> None:
        self.server = BlockingServer(root, **options)

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return self.server.sessions

    def start(self, listener: socket.socket) -> None:
        """Accepts connections from now on; the listener is taken over."""
        self.server.start(listener)

    async def serve(self, listener: socket.socket) -> None:
        """Accepts connections until `shutdown`. Being cancelled shuts the server down."""
        await self._serve(self.server.serve, listener)

    async def serve_bootstrap(self, sock: socket.socket) -> None:
        """Takes connections over a bootstrap socket until its peer closes it. Being cancelled shuts the server down."""
        await self._serve(self.server.serve_bootstrap, sock)

    async def _serve(self, serve: Callable[[socket.socket], None], sock: socket.socket) -> None:
        try:
            await in_thread(serve, sock)
        except asyncio.CancelledError:
            await self.shutdown()
            raise

    async def shutdown(self) -> None:
        """Stops accepting, ends all sessions, cancels the coroutines that serve calls, and waits for them."""
        await _end(self.server.shutdown, self.server.endpoints(), self.server.threads)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.shutdown()


class AsyncSession:
    """A `Session` whose waiting is awaited."""

    def __init__(self, session: client.Session) -> None:
        self.session = session

    @property
    def version(self) -> int:
        """The protocol version in use."""
        return self.session.version

    @property
    def closed(self) -> bool:
        return self.session.closed

    async def get_root(self, interface: type[_I]) -> _I:
        return await in_thread(self.session.get_root, interface)

    async def close(self) -> None:
        """Ends the session, cancels the coroutines that serve its calls, and waits for them. Idempotent."""
        await _end(self.session.close, [self.session.endpoint], self.session.threads)

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
    frame_timeout: float | None = None,
) -> AsyncSession:
    """`avf.binder.connect`, awaited. If this is cancelled, a session that comes about all the same ends at once."""
    session = await in_thread(
        client.connect,
        connector,
        fd_mode=fd_mode,
        incoming_threads=incoming_threads,
        max_outgoing=max_outgoing,
        max_version=max_version,
        timeout=timeout,
        frame_timeout=frame_timeout,
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
            return await in_thread(bound, *args, **named)

        return call


def proxy(binder: Interface) -> AsyncProxy:
    """`binder`, with methods to be awaited."""
    return AsyncProxy(binder)


def in_loop(function: Callable[..., None]) -> Callable[..., None]:
    """A function to be called in any thread, by a death recipient or a callback, that runs `function` in this loop."""
    return loop_callback(asyncio.get_running_loop(), function)


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
