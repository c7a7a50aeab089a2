"""The console or the log of one VM, read as it comes."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import closing

from avf.binder import BinderError
from avf.causes import words
from avf.client import ClientError, Refused
from avf.pace import Pace
from avf.top.lines import Lines, visible

RATE = 256 << 10
"""Bytes a second that are read. Of what comes faster virtmgr skips some, and says how much."""
_LINE_COST = 64
"""What a line counts as at least, however short it is."""
_CHUNK = 32 << 10
_MAX_PROBLEM = 300


class Stream:
    """What one VM says in one of its streams."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.problem = ""
        """Why it cannot be read."""
        self.ended = False
        self.attached = False
        self.version = 0
        """Changes whenever anything of the above does."""
        self._pace = Pace(RATE, RATE)

    async def follow(self, attach: Callable[[], socket.socket], threads: Executor) -> None:
        """Reads what `attach` gives, which may take its time in a thread, until it ends."""
        try:
            with closing(await _in_thread(attach, threads)) as sock:
                self._change(attached=True)
                while data := await _receive(sock):
                    self._take(data)
                    await asyncio.sleep(self._pace.pause())
        except (OSError, BinderError, ClientError, ValueError) as error:
            self._change(problem="" if self.attached else _problem(error))
        if self.attached:
            self.lines.feed(b"", final=True)
            self._change(ended=True)

    def _take(self, data: bytes) -> None:
        self.lines.feed(data)
        self._pace.spend(max(len(data), data.count(b"\n") * _LINE_COST))
        self._change()

    def _change(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self.version += 1


async def _in_thread(attach: Callable[[], socket.socket], threads: Executor) -> socket.socket:
    """Its socket; one that comes when nobody waits any more is closed."""
    future = threads.submit(attach)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        future.add_done_callback(_close_late)
        raise


def _close_late(future: "Future[socket.socket]") -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().close()


async def _receive(sock: socket.socket) -> bytes:
    """What comes next. Whoever has the other end shares the socket's flags with us, so that each call has its own."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return sock.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(sock, _set, ready)
        try:
            await ready
        finally:
            loop.remove_reader(sock)


def _set(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _problem(error: Exception) -> str:
    text = error.problem if isinstance(error, Refused) else words(error)
    return visible(text[:_MAX_PROBLEM])
