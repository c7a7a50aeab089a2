"""Threads in which asyncio has blocking calls made: as many as there are calls at a time, kept for a while.

The loop's own executor has a few threads only, so calls that wait for one another would wait for a thread; and its
futures of futures take longer than the call.
"""

import asyncio
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_Work = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]

_MAX_THREADS = 1000
_KEPT = 10.0
"""Seconds after which a thread that has nothing to do ends."""


class Workers:
    """The threads. They do not hold up the end of the process."""

    def __init__(self, most: int = _MAX_THREADS, kept: float = _KEPT) -> None:
        self._most = most
        self._kept = kept
        self._lock = threading.Lock()
        self._count = 0
        self._idle: list[queue.SimpleQueue[_Work]] = []
        self._waiting: deque[_Work] = deque()

    def submit(self, call: Callable[[], _T]) -> "asyncio.Future[_T]":
        """Has a thread make the call, from the running loop; not if the future is cancelled before.

        Raises RuntimeError if there can be no more threads.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        work = call, future, loop
        with self._lock:
            if self._idle:
                self._idle.pop().put(work)
            elif self._count < self._most:
                self._start(work)
            else:
                self._waiting.append(work)
        return future

    def _start(self, work: _Work) -> None:
        own: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        own.put(work)
        threading.Thread(target=self._run, args=(own,), name="aio-binder", daemon=True).start()
        self._count += 1

    def _run(self, own: queue.SimpleQueue[_Work]) -> None:
        work: _Work | None = own.get()
        while work is not None:
            make(*work)
            work = None  # nothing of it is kept while there is nothing to do
            with self._lock:
                if self._waiting:
                    own.put(self._waiting.popleft())
                else:
                    self._idle.append(own)
            work = self._next(own)

    def _next(self, own: queue.SimpleQueue[_Work]) -> _Work | None:
        """Waits for work; None if this thread is to end."""
        try:
            return own.get(timeout=self._kept)
        except queue.Empty:
            with self._lock:
                if own in self._idle:
                    self._idle.remove(own)
                    self._count -= 1
                    return None
            return own.get()


def make(
    call: Callable[[], Any], future: "asyncio.Future[Any]", loop: asyncio.AbstractEventLoop
) -> None:
    """Makes a call, in any thread, unless the future is cancelled, which gets what comes of it."""
    if future.cancelled():
        return
    result, error = None, None
    try:
        result = call()
    except BaseException as raised:  # noqa: BLE001 - it is raised where it is awaited
        error = raised
    try:
        loop.call_soon_threadsafe(_settle, future, result, error)
    except RuntimeError:
        pass  # the loop is closed: nobody awaits it
    finally:
        del error  # its traceback refers to this


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return  # it was cancelled
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        future.set_exception(RuntimeError(f"StopIteration raised: {error.value!r}"))
    else:
        future.set_exception(error)


_workers = Workers()


def submit(call: Callable[[], _T]) -> "asyncio.Future[_T]":
    """`Workers.submit`, with threads that the whole process shares."""
    return _workers.submit(call)


def _after_fork() -> None:
    """The child has none of these threads."""
    global _workers
    _workers = Workers()


os.register_at_fork(after_in_child=_after_fork)
