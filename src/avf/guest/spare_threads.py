"""Threads that are made before a template is saved, for its clones: the code that makes one takes an emulator long."""

import _thread
import os
import threading
from collections.abc import Callable
from typing import Any

_waiting: "list[_Spare]" = []
_owner = 0
"""The process that has made them."""


class _Spare:
    """One thread, which waits until it is told what to run."""

    def __init__(self) -> None:
        self._told = _thread.allocate_lock()
        self._told.acquire()
        self._call: tuple[Callable[..., object], tuple[Any, ...]]
        self._ident = _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        self._told.acquire()
        function, arguments = self._call
        function(*arguments)

    def call(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
        """The thread's number."""
        self._call = function, arguments
        self._told.release()
        return self._ident


def keep(count: int) -> None:
    """Makes `count` threads, which run what this process, but none that it forks, starts next as threads."""
    global _owner
    _owner = os.getpid()
    _waiting.extend(_Spare() for _ in range(count))
    threading._start_new_thread = _start  # type: ignore[attr-defined]


def _start(function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
    if _waiting and _owner == os.getpid():
        return _waiting.pop().call(function, arguments)
    return _thread.start_new_thread(function, arguments)
