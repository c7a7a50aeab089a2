"""Calls that an event loop awaits without a thread: it sends them, and reads what they are answered with.

One epoll instance for each loop tells of all its connections. It tells of what comes, not of what is there, so that a
connection stays with it between calls; one on which something comes for somebody else leaves it.
"""

import asyncio
import select
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import Context
from typing import Any, Self

from . import workers
from .begun_call import BegunCall
from .connection import Connection

_MOST = 64
"""Events taken in one turn of the loop."""
_EVENTS = select.EPOLLIN | select.EPOLLET


class _Hub:
    """Tells the calls of one loop that something has come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, LoopCall] = {}
        self._known: dict[int, weakref.ref[Connection]] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def expect(self, connection: Connection, call: "LoopCall") -> None:
        """Has the call told when something comes, once."""
        fd = connection.sock.fileno()
        self._waiting[fd] = call
        if connection.poller is not self:
            connection.poller = self
            self._known[fd] = weakref.ref(connection)
            with suppress(FileExistsError):  # it was here before another loop had it
                self._epoll.register(fd, _EVENTS)

    def forget(self, connection: Connection) -> None:
        """Tells the call on this connection nothing any more."""
        self._waiting.pop(connection.sock.fileno(), None)

    def close_if_unused(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Closes it, and leaves the loop, if all its connections are closed."""
        for fd, known in list(self._known.items()):
            connection = known()
            if connection is None or connection.sock.fileno() != fd:
                del self._known[fd]
        if self._known or self._waiting:
            return False
        loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        return True

    def _ready(self) -> None:
        for fd, _ in self._epoll.poll(0, _MOST):
            call = self._waiting.pop(fd, None)
            if call is None:
                self._leave(fd)
                continue
            call.advance()
            call.go_on()

    def _leave(self, fd: int) -> None:
        connection = self._known.pop(fd, _nothing)()
        if connection is not None and connection.poller is self:
            connection.poller = None
        with suppress(OSError):  # it may have been closed just now
            self._epoll.unregister(fd)


_hubs: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Hub]" = weakref.WeakKeyDictionary()
_latest: tuple[Callable[[], asyncio.AbstractEventLoop | None], Callable[[], _Hub | None]]
"""The entry that was used last."""


def _nothing() -> None:
    return None


_latest = _nothing, _nothing


def _hub_of(loop: asyncio.AbstractEventLoop) -> _Hub:
    global _latest
    known, found = _latest
    hub = found() if known() is loop else _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = _Hub(loop)
        _latest = weakref.ref(loop), weakref.ref(hub)
    return hub


def close_unused() -> None:
    """Gives back what the running loop needed for sessions that have ended."""
    global _latest
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is not None and hub.close_if_unused(loop):
        del _hubs[loop]
        _latest = _nothing, _nothing


class LoopCall(BegunCall):
    """A call to be awaited once, by a task, which goes on at once when the reply has come.

    It is what asyncio takes for a future, without the turn of the loop that a future's callbacks wait for.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_cancelled",
        "_context",
        "_hub",
        "_loop",
        "_rest",
    )

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Has the loop, which runs, take the reply of the call, which has just been sent."""
        self._asyncio_future_blocking = False
        self._loop = loop
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._cancelled: tuple[object, ...] | None = None
        """The arguments of the CancelledError, once there is one."""
        self._rest: asyncio.Future[Any] | None = None
        """Of the thread that does what may have to wait."""
        self._hub = _hub_of(loop)
        self.go_on()

    def go_on(self) -> None:
        """Has the loop, or a thread, do what is left; the task, if that is nothing."""
        connection = self.connection
        if connection is None:
            self._over()
        elif self.unfinished:
            self._have_finished()
        else:
            self._hub.expect(connection, self)

    def _have_finished(self) -> None:
        try:
            self._rest = workers.submit(self.finish)
            self._rest.add_done_callback(self._over)
        except RuntimeError as error:  # no more threads
            self.error = error
            self.abandon()
            self._over()

    def _over(self, rest: object = None) -> None:
        callback, self._callback = self._callback, None
        if callback is None:  # it was cancelled, or is not awaited yet
            return
        if self._context is None:
            callback(self)
        else:
            self._context.run(callback, self)

    # For the task

    def __await__(self) -> Generator[Self, None, Any]:
        rest = self._rest
        over = self.connection is None if rest is None else rest.done()
        if not over:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def result(self) -> Any:
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)
        if self._rest is not None:
            return self._rest.result()
        error, self.error = self.error, None  # which is to be in no cycle with its traceback
        try:
            if error is not None:
                raise error
            return self.value
        finally:
            del error

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        self._callback, self._context = callback, context

    def cancel(self, msg: object = None) -> bool:
        """Has the task go on without the reply. The call itself goes on in a thread: the loop may end now."""
        callback, self._callback = self._callback, None
        if callback is None:
            return False
        self._cancelled = () if msg is None else (msg,)
        if self._rest is not None:
            self._rest.cancel()
        elif (connection := self.connection) is not None:
            self._hub.forget(connection)
            self.abandon()
        self._loop.call_soon(callback, self, context=self._context)
        return True
