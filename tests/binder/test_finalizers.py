"""Sessions, proxies and calls that nobody holds any more: in the middle of a call, and when the interpreter ends."""

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from avf.binder import connect, unix
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

from .conftest import Serve

FOLDER = Path(__file__).parents[2]

AT_EXIT = """\
import asyncio, gc, os, sys, threading, types
from avf.binder import aio, connect, idle, unix
from tests.interop.echo import IEcho

class Held:
    def __del__(self, collect=gc.collect, is_finalizing=sys.is_finalizing, write=os.write):
        vars(self).clear()
        collect()
        write(1, b"finalized\\n" if is_finalizing() else b"too early\\n")

held = Held()
sys.modules["holder"] = types.ModuleType("holder")  # which nothing else keeps from its end
sys.modules["holder"].held = held
held.sessions = [connect(unix(sys.argv[1]), timeout=10) for _ in range(2)]
held.root = held.sessions[0].get_root(IEcho)

async def begin():
    held.loops_session = await aio.connect(unix(sys.argv[1]), timeout=10)
    held.loops_root = aio.proxy(await held.loops_session.get_root(IEcho))
    held.call = asyncio.ensure_future(held.loops_root.add_ints(1, 2))
    while not await held.loops_root.count_live_binders():
        pass

held.loop = asyncio.new_event_loop()
held.loop.run_until_complete(begin())
locks = [idle.reader._lock]
if sys.argv[2] == "of the sessions":
    locks = [one.endpoint.core.lock for one in held.sessions]
taken = threading.Event()

def hold():
    for lock in locks:
        lock.acquire()
    taken.set()
    threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
taken.wait()
del held
print("the end", flush=True)
"""
"""Ends while a thread that will not run on holds locks that finalizers want."""


class Slow(Echo):
    """Does not add before it is told to, and counts one live binder as soon as it has been asked to add."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.may_add = threading.Event()

    def add_ints(self, a: int, b: int) -> int:
        self.asked.set()
        self.may_add.wait(60)
        return a + b

    def count_live_binders(self) -> int:
        return int(self.asked.is_set())


@pytest.mark.parametrize("locks", ["of the sessions", "of the idle reader"])
def test_a_program_that_holds_sessions_ends(serve: Serve, locks: str) -> None:
    slow = Slow()
    served = serve(root=slow, max_threads=3)
    try:
        done = subprocess.run(
            [sys.executable, "-c", AT_EXIT, str(served.path), locks],
            cwd=FOLDER,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        slow.may_add.set()
    assert (done.returncode, done.stdout) == (0, "the end\nfinalized\n")
    assert done.stderr == ""


@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_a_session_dropped_in_the_middle_of_its_own_call_ends(
    serve: Serve, in_a_cycle: bool
) -> None:
    session = connect(unix(serve().path), timeout=10)
    session.get_root(IEcho)
    endpoint = session.endpoint
    with endpoint.core.lock:  # as a call holds it, in which the collector may run
        if in_a_cycle:
            cycle: list[object] = [session]
            cycle.append(cycle)
            del cycle, session
            gc.collect()
        else:
            del session
        assert not endpoint.ended
    eventually(lambda: endpoint.ended, True)
