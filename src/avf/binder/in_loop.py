"""Binder objects whose methods are coroutines, and blocking calls for those who may not block.

A call that comes is taken by a binder thread as ever. The thread has the event loop run the coroutine, waits, and makes
the nested calls that the coroutine awaits meanwhile: so they go out where the peer waits for them.
"""

import asyncio
import inspect
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from . import workers
from .contract import AsyncInterface, Interface
from .errors import Status, StatusError
from .loop_calls import LoopCall
from .methods import Method
from .objects import BinderClass, binder_class
from .peer import Peer, Served, running
from .wire import META_CODES

_I = TypeVar("_I", bound=Interface)
_T = TypeVar("_T")

_LOOK_AFTER = 1.0
"""Seconds after which a waiting binder thread looks whether its loop is still there."""

_serving: ContextVar["Serving | None"] = ContextVar("avf_binder_serving", default=None)
_running: set["Serving"] = set()


class Serving:
    """A call that a binder thread has taken and the loop carries out."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Served | None) -> None:
        self.loop = loop
        self.connection = connection
        """None if it is called from within the process."""
        self.thread = threading.current_thread()
        self.over = False
        """Set in the loop: nobody takes work any more."""
        self._task: asyncio.Task[Any] | None = None
        """Over when the binder thread goes on."""
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    # In the binder thread

    def carry_out(self, method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """What the coroutine returns or raises. Raises StatusError if it was cancelled or its loop is gone."""
        _running.add(self)
        try:
            self.loop.call_soon_threadsafe(self._start, method, args)
            while (work := self._next()) is not None:
                work()
        except RuntimeError as error:
            raise StatusError(Status.INVALID_OPERATION, str(error)) from error
        finally:
            _running.discard(self)
        task = self._task
        assert task is not None
        self._task = None  # which refers to this
        if task.cancelled():
            raise StatusError(Status.UNKNOWN_ERROR, "the method was cancelled")
        return task.result()

    def _next(self) -> Callable[[], None] | None:
        while True:
            try:
                return self._work.get(timeout=_LOOK_AFTER)
            except queue.Empty:
                if self.loop.is_closed():
                    raise RuntimeError("the event loop of the object is closed") from None

    # In the loop

    def _start(self, method: Callable[..., Any], args: tuple[Any, ...]) -> None:
        token = _serving.set(self)
        self._task = self.loop.create_task(_awaited(method, args))
        _serving.reset(token)
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.over = True
        if not task.cancelled():
            task.exception()  # is raised in the binder thread, so the loop need not report it
        self._work.put(None)

    def submit(self, function: Callable[[], _T]) -> "asyncio.Future[_T]":
        """Has the binder thread call `function`."""
        made: asyncio.Future[_T] = self.loop.create_future()
        self._work.put(partial(workers.make, function, made, self.loop))
        return made

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _awaited(method: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    result = method(*args)
    if not inspect.isawaitable(result):
        name = getattr(method, "__qualname__", repr(method))
        raise TypeError(f"{name} is no coroutine function: write `async def`")
    return await result


async def in_thread(function: Callable[..., _T], *args: Any, **named: Any) -> _T:
    """Calls something of this package that blocks: in the thread that serves the running method, or else in another.

    If this is cancelled the call goes on there, unwatched, and its session stays as it is.
    """
    call = partial(function, *args, **named)
    serving = _serving.get()
    if serving is not None and not serving.over and serving.loop is asyncio.get_running_loop():
        return await serving.submit(call)
    return await workers.submit(call)


def call_method(
    binder: Interface, method: Method, args: tuple[Any, ...], named: dict[str, Any]
) -> Awaitable[Any]:
    """A call of a binder object's method, to be awaited: without a thread if it waits for nothing but the reply."""
    handle, serving = binder._remote, _serving.get()
    if handle is not None and (serving is None or serving.over):
        if named:
            args = method.bind(args, named)
            named = {}
        begun: LoopCall | None = handle.remote.begin(handle, method, args, LoopCall)
        if begun is not None:
            begun.start(asyncio.get_running_loop())
            return begun
    return in_thread(getattr(binder, method.attribute), *args, **named)


def calling_peer() -> Peer:
    """Inside a coroutine that serves a call: who called it. Raises RuntimeError elsewhere."""
    serving = _serving.get()
    if serving is None or serving.over or serving.connection is None:
        raise RuntimeError("no binder call is being served by this task")
    return serving.connection.peer


def cancel_served(sessions: Iterable[object], threads: Iterable[threading.Thread]) -> None:
    """Cancels the coroutines that run in this loop for calls of these sessions, or taken by these threads."""
    wanted_sessions, wanted_threads = set(sessions), set(threads)
    loop = asyncio.get_running_loop()
    for serving in list(_running):
        session = serving.connection.session if serving.connection is not None else None
        wanted = session in wanted_sessions or serving.thread in wanted_threads
        if wanted and serving.loop is loop:
            serving.cancel()


def serving(interface: BinderClass[_I], implementation: object) -> _I:
    """A binder object whose AIDL methods are `implementation`'s coroutine functions of the same names.

    They run in the running loop. An abstract method of the interface must be there, others that are not are unknown to
    callers. Its `on_released`, if any, is called in the loop, its `dump` and `has_permission`, which are ordinary
    functions, in a binder thread. Raises TypeError for what cannot serve the interface.
    """
    wanted: type[_I] = binder_class(interface)
    return _served_by(wanted, implementation)


def _served_by(wanted: type[_I], implementation: object) -> _I:
    contract = wanted._contract
    if contract is None:
        raise TypeError(f"{wanted.__name__} has no descriptor")
    if isinstance(implementation, type):
        raise TypeError(f"an object wanted, not the class {implementation.__name__}")
    loop = asyncio.get_running_loop()
    loop_thread = threading.get_ident()

    def served(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Interface, *args: Any) -> Any:
            if threading.get_ident() == loop_thread:
                raise RuntimeError(
                    "this would wait for the loop in the loop: await the method itself"
                )
            return Serving(loop, running.context.served).carry_out(function, args)

        return call

    members: dict[str, Any] = {
        made.attribute: served(getattr(implementation, made.attribute))
        for made in contract.methods().values()
        if _implements(implementation, made)
    }
    released = getattr(implementation, "on_released", None)
    if released is not None:
        members["on_released"] = lambda self: loop_callback(loop, released)()
    dump = getattr(implementation, "dump", None)
    if dump is not None:
        members["dump"] = lambda self, fd, args: dump(fd, args)
    permitted = getattr(implementation, "has_permission", None)
    if permitted is not None:
        members["has_permission"] = lambda self, name: permitted(name)
    missing = [name for name in wanted.__abstractmethods__ if name not in members]
    if missing:
        names = ", ".join(sorted(missing))
        text = f"{type(implementation).__name__} cannot serve {wanted.__name__}: it has no {names}"
        raise TypeError(text)
    members["__module__"] = wanted.__module__
    made: _I = type(f"{wanted.__name__}InLoop", (wanted,), members)()
    return made


def _implements(implementation: object, method: Method) -> bool:
    """Whether there is a method of its own: what an interface says of itself is the interface's."""
    if method.code in META_CODES and isinstance(implementation, AsyncInterface):
        return False
    return hasattr(implementation, method.attribute)


def served(implementation: AsyncInterface[_I]) -> _I:
    """The binder object that serves an implementation in the running loop, always the same one."""
    if implementation._made is None:
        implementation._made = _served_by(interface_of(type(implementation)), implementation)
    made: _I = implementation._made
    return made


def interface_of(face: type[AsyncInterface[_I]]) -> type[_I]:
    """The interface that a class is the asyncio face of. Raises TypeError."""
    if face._interface is None:
        raise TypeError(f"{face.__name__} is not the face of an interface: AsyncInterface[IFoo]")
    return face._interface  # type: ignore[return-value]


def loop_callback(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Any]
) -> Callable[..., None]:
    """A function for any thread that has the loop call `function`, and nobody if the loop is closed."""

    def call(*args: Any) -> None:
        try:
            loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass  # nobody is left to be told

    return call
