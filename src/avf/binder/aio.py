"""RPC Binder for asyncio: sessions, servers, objects and calls, without the event loop waiting for them.

    class Counter(ICounterAsync):
        async def add(self, amount: int) -> int: ...

    async with aio.Server(Counter()) as server:
        server.start(listener)
    async with await aio.connect(unix(path), incoming_threads=1) as session:
        counter = await session.get_root(ICounterAsync)
        total = await counter.add(5)

`ICounterAsync` is written by avf-aidl beside `ICounter`, or by hand: an `AsyncInterface[ICounter]` with ICounter's
methods as coroutine functions. What a method takes and returns are binder objects of the interfaces themselves:
`binder` makes one of an asyncio object, `proxy` an asyncio object of a proxy.

What is awaited means what the blocking call means. A call that only waits for its reply is the loop's own; one that may
have to wait for something else, such as a free connection, occupies a thread while it lasts. A cancelled one goes on in
a thread, unwatched, and its session stays usable. A coroutine that serves a call may await calls to its caller, which
take the way nested calls take. Objects may also be ordinary ones whose methods run in binder threads; `in_loop` brings
what they say to the loop.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, Unpack, overload

from . import client, predefined, workers
from .contract import AsyncInterface, Interface, as_declared
from .in_loop import (
    call_method,
    calling_peer,
    cancel_served,
    in_thread,
    interface_of,
    loop_callback,
    served,
    serving,
)
from .loop_calls import close_unused
from .methods import Method
from .objects import BinderClass, IBinder
from .peer import Peer
from .roots import Root as BlockingRoot
from .server import Server as BlockingServer
from .server import ServerOptions
from .services import Service as BlockingService
from .transport import Address, Connector
from .wanted import check_seconds, check_type
from .wire import DEFAULT_VERSION, FdMode

__all__ = [
    "AsyncClass",
    "AsyncInterface",
    "AsyncProxy",
    "AsyncSession",
    "Server",
    "binder",
    "calling_peer",
    "connect",
    "death",
    "in_loop",
    "in_thread",
    "proxy",
    "serving",
]

_I = TypeVar("_I", bound=IBinder)
_T = TypeVar("_T")
_At = TypeVar("_At", bound=Address)
_C = TypeVar("_C", bound=Interface)
_A = TypeVar("_A", bound=AsyncInterface[Any])
_A_co = TypeVar("_A_co", bound=AsyncInterface[Any], covariant=True)

Service = Interface | AsyncInterface[Any] | Callable[[Peer], Interface | AsyncInterface[Any] | None]
Root = Service | Mapping[str, Service]


class AsyncClass(Protocol[_A_co]):
    """The asyncio face of an interface, whose abstract methods its proxies have."""

    def _face(self) -> type[_A_co]: ...


async def _end(
    end: Callable[[], None],
    sessions: Iterable[object],
    threads: Callable[[], Iterable[threading.Thread]],
) -> None:
    """Waits for `end`, which ends sessions and waits for threads, and has the coroutines cancelled that serve them.

    If this is cancelled the ending goes on.
    """
    sessions = list(sessions)
    ending = workers.submit(end)
    while not ending.done():
        await asyncio.wait({ending}, timeout=0.02)
        cancel_served(sessions, threads())
    close_unused()
    ending.result()


class Server:
    """`avf.binder.Server`, awaited; takes the same options. Leaving its context shuts it down.

    The root may be an asyncio object, or a function that makes one for a peer, which is called in a binder thread.
    """

    def __init__(self, root: Root, **options: Unpack[ServerOptions]) -> None:
        if isinstance(root, AsyncInterface):
            blocking: BlockingRoot = binder(root)
        elif isinstance(root, Mapping):
            blocking = {name: _blocking(service) for name, service in root.items()}
        elif isinstance(root, Interface):
            blocking = root
        else:
            blocking = _made_in(asyncio.get_running_loop(), root)
        self.server = BlockingServer(blocking, **options)

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return self.server.sessions

    @overload
    def start(self, at: _At) -> _At: ...

    @overload
    def start(self, at: socket.socket) -> None: ...

    def start(self, at: _At | socket.socket) -> _At | None:
        """Accepts connections from now on; the address that clients can connect to. A socket is taken over."""
        return self.server.start(at)

    async def serve(self, at: Address | socket.socket) -> None:
        """Accepts connections until `shutdown`. Being cancelled shuts the server down."""
        await self._serve(self.server.serve, at)

    async def serve_bootstrap(self, sock: socket.socket) -> None:
        """Takes connections over a bootstrap socket until its peer closes it. Being cancelled shuts the server down."""
        await self._serve(self.server.serve_bootstrap, sock)

    async def _serve(self, serve: Callable[[_T], None], at: _T) -> None:
        try:
            await in_thread(serve, at)
        except asyncio.CancelledError:
            await self.shutdown()
            raise

    async def shutdown(self, grace: float = 0.0) -> None:
        """Stops accepting, ends all sessions, cancels the coroutines that serve calls, and waits for them.

        Calls that are being served, or wait to be, have `grace` seconds before that.
        """
        check_seconds("grace", grace, optional=False)
        if grace > 0:
            await in_thread(self.server.shutdown, grace)
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


def _blocking(service: Service) -> BlockingService:
    if isinstance(service, AsyncInterface):
        served: Interface = binder(service)
        return served
    if isinstance(service, Interface):
        return service
    return _made_in(asyncio.get_running_loop(), service)


def _made_in(
    loop: asyncio.AbstractEventLoop,
    make: Callable[[Peer], Interface | AsyncInterface[Any] | None],
) -> Callable[[Peer], Interface | None]:
    """A function of the peer that makes binder objects, of asyncio ones in the loop that they run in."""

    async def serve(made: AsyncInterface[Any]) -> Interface:
        served: Interface = binder(made)
        return served

    def root(peer: Peer) -> Interface | None:
        made = make(peer)
        if not isinstance(made, AsyncInterface):
            return made
        return asyncio.run_coroutine_threadsafe(serve(made), loop).result()

    return make if isinstance(make, type) else root


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
        """Whether the session has ended, from whichever side."""
        return self.session.closed

    @overload
    async def get_root(self, interface: AsyncClass[_A]) -> _A: ...

    @overload
    async def get_root(self, interface: BinderClass[_I]) -> _I: ...

    async def get_root(self, interface: Any) -> Any:
        """The server's root object, with methods to be awaited if `interface` is an asyncio face: `IFooAsync`."""
        if isinstance(interface, type) and issubclass(interface, AsyncInterface):
            root = await in_thread(self.session.get_root, interface_of(interface))
            return proxy(interface, root)
        return await in_thread(self.session.get_root, interface)

    @overload
    async def get_service(self, name: str, interface: AsyncClass[_A]) -> _A: ...

    @overload
    async def get_service(self, name: str, interface: BinderClass[_I]) -> _I: ...

    async def get_service(self, name: str, interface: Any) -> Any:
        """The object that a server of several serves by this name, as `get_root` gives the root."""
        if isinstance(interface, type) and issubclass(interface, AsyncInterface):
            get = self.session.get_service
            return proxy(interface, await in_thread(get, name, interface_of(interface)))
        return await in_thread(self.session.get_service, name, interface)

    async def services(self) -> list[str]:
        """The names at a server of several objects."""
        return await in_thread(self.session.services)

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
        method = self._methods.get(name)
        if method is None:
            raise AttributeError(f"{type(self.binder).__name__} has no AIDL method {name}")

        binder = self.binder

        async def call(*args: Any, **named: Any) -> Any:
            return await call_method(binder, method, args, named)

        made = self.__dict__[name] = as_declared(call, getattr(binder, name))
        return made


@overload
def proxy(face: AsyncClass[_A], binder: Interface) -> _A: ...


@overload
def proxy(face: Interface) -> AsyncProxy: ...


def proxy(face: Any, binder: Interface | None = None) -> Any:
    """`proxy(IFooAsync, foo)` is the object `foo`, an IFoo, with methods to be awaited.

    `proxy(foo)` is the same without types, for interfaces that have no asyncio face. Raises TypeError for an object of
    another interface.
    """
    if binder is None:
        check_type("binder", face, Interface)
        return AsyncProxy(face)
    interface = interface_of(face)
    if not isinstance(binder, interface):
        raise TypeError(f"{interface.__name__} wanted, not {type(binder).__name__}")
    made = object.__new__(_proxy_class(face))
    made._made = binder
    return made


def binder(of: AsyncInterface[_C]) -> _C:
    """The binder object of an asyncio one, to be passed as an argument or to be served.

    Of a proxy it is the proxied object; of an implementation one that runs its methods in the running loop, always the
    same one.
    """
    check_type("binder", of, AsyncInterface)
    return served(of)


_proxies: dict[type[AsyncInterface[Any]], type[AsyncInterface[Any]]] = {}


def _proxy_class(face: type[_A]) -> type[_A]:
    known = _proxies.get(face)
    if known is None:
        contract = interface_of(face)._contract
        methods = contract.methods().values() if contract is not None else ()
        calls: dict[str, Any] = {
            made.attribute: _call(made, getattr(face, made.attribute, made.function))
            for made in methods
        }
        calls["__doc__"] = face.__doc__
        calls["__module__"] = face.__module__
        known = _proxies[face] = type(f"{face.__name__}Proxy", (face,), calls)
    return known  # type: ignore[return-value]


def _call(method: Method, declared: Any) -> Any:
    async def call(self: AsyncInterface[Any], *args: Any, **named: Any) -> Any:
        return await call_method(self._made, method, args, named)

    return as_declared(call, declared)


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
