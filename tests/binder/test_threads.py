"""Calls from everywhere at once: inside callbacks, while sessions break, while proxies are collected."""

import gc
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from avf.binder import (
    DeadObjectError,
    IBinder,
    Status,
    StatusError,
    calling_peer,
    interface_cast,
    link_to_death,
)
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

from .conftest import Serve


def test_calls_from_on_released_take_a_connection_of_their_own(serve: Serve) -> None:
    """The serving connection is idle then: a call sent over it would never be read."""
    answers: list[object] = []
    done = threading.Event()

    class Handing(Echo):
        def return_binder(self) -> IBinder:
            return Calling(self)

    class Calling(Echo):
        def __init__(self, root: Handing) -> None:
            super().__init__()
            self.root = root

        def on_released(self) -> None:
            with pytest.raises(RuntimeError):
                calling_peer()
            held = self.root.held
            assert held is not None
            try:
                answers.append(interface_cast(IEcho, held).add_ints(1, 2))
            except StatusError as error:
                answers.append(error.status)
            done.set()

    for incoming, answer in ((1, 3), (0, Status.WOULD_BLOCK)):
        session = serve(root=Handing()).connect(incoming_threads=incoming)
        root = session.get_root(IEcho)
        root.hold_binder(Echo())
        root.return_binder()
        root.add_ints(1, 1)
        assert done.wait(10)
        done.clear()
        assert answers.pop() == answer


def test_sync_calls_in_oneway_methods_take_a_connection_of_their_own(serve: Serve) -> None:
    results: list[object] = []
    done = threading.Event()

    class Calling(Echo):
        def append(self, v: int) -> None:
            assert self.held is not None
            try:
                results.append(interface_cast(IEcho, self.held).add_ints(v, v))
            except StatusError as error:
                results.append(error.status)
            done.set()

    for incoming, answer in ((0, Status.WOULD_BLOCK), (1, 10)):
        root = serve(root=Calling()).connect(incoming_threads=incoming).get_root(IEcho)
        root.hold_binder(Echo())
        root.append(5)
        assert done.wait(10)
        done.clear()
        assert results.pop() == answer
        root.drop_held()


def test_nested_calls_run_in_the_thread_that_waits(serve: Serve) -> None:
    threads: list[int] = []

    class Noting(Echo):
        def echo_string(self, value: str) -> str:
            threads.append(threading.get_ident())
            return value

    root = serve().connect(incoming_threads=2).get_root(IEcho)
    assert root.call_back(Noting(), 3) == 3
    assert threads == [threading.get_ident()] * 3


def test_closing_a_session_inside_its_callback(serve: Serve) -> None:
    closed = threading.Event()

    class Closing(Echo):
        def on_notify(self, v: int) -> None:
            session.close()
            closed.set()

    session = serve().connect(incoming_threads=2)
    root = session.get_root(IEcho)
    root.oneway_notify(Closing(), 1)
    assert closed.wait(10)
    with pytest.raises(DeadObjectError):
        root.add_ints(1, 1)


def test_two_methods_that_shut_the_server_down_at_once(serve: Serve) -> None:
    both = threading.Barrier(2)

    class Closing(Echo):
        def add_ints(self, a: int, b: int) -> int:
            both.wait(10)
            served.server.shutdown()
            return 0

    served = serve(root=Closing())
    roots = [served.connect().get_root(IEcho) for _ in range(2)]

    def call(root: IEcho) -> int | None:
        try:
            return root.add_ints(1, 1)
        except DeadObjectError:
            return None

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(call, roots)) == [None, None]
    served.server.shutdown()


def test_dropping_the_last_proxy_runs_no_user_code_under_the_users_lock(serve: Serve) -> None:
    lock = threading.Lock()
    dead = threading.Event()

    def recipient() -> None:
        with lock:
            dead.set()

    session = serve().connect(incoming_threads=1)
    root = session.get_root(IEcho)
    link_to_death(root, recipient)
    with lock:
        session._endpoint.end(in_passing=True)
    assert dead.wait(10)


def test_proxies_in_cycles_are_given_back_by_the_collector(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    gc.disable()
    try:
        for _ in range(20):
            cycle: list[object] = [root.return_binder()]
            cycle.append(cycle)
        del cycle
        assert root.count_live_binders() == 20
        gc.collect()
        assert root.count_live_binders() == 0
    finally:
        gc.enable()


def test_collections_in_the_middle_of_calls(serve: Serve) -> None:
    """Every allocation may start a collection, and with it the return of references."""
    root = serve(max_threads=2).connect(incoming_threads=1).get_root(IEcho)
    before = gc.get_threshold()
    gc.set_threshold(7, 2, 2)
    try:

        def work(n: int) -> None:
            for i in range(30):
                cycle: list[object] = [root.return_binder(), root.echo_binder(Echo())]
                cycle.append(cycle)
                assert root.add_ints(n, i) == n + i

        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(work, range(4)):
                pass
    finally:
        gc.set_threshold(*before)
    gc.collect()
    eventually(root.count_live_binders, 0)


@pytest.mark.parametrize("seed", range(15))
def test_a_connection_that_breaks_anywhere_ends_everything(serve: Serve, seed: int) -> None:
    """Whatever is under way: every call returns or fails as dead, and nothing is left (the fixture looks)."""
    choose = random.Random(seed)
    served = serve(max_threads=3)
    session = served.connect(incoming_threads=2)
    root = session.get_root(IEcho)
    started = threading.Barrier(6)
    mine = Echo()
    root.hold_binder(mine)

    def work(n: int) -> int:
        started.wait(10)
        calls = 0
        try:
            while True:
                root.append(n)
                root.call_back(Echo(), 2)
                root.return_binder()
                root.oneway_notify(mine, n)
                calls += 1
        except DeadObjectError:
            return calls

    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(work, n) for n in range(5)]
        started.wait(10)
        for _ in range(choose.randrange(50)):
            root.add_ints(1, 1)
        victim = choose.choice(sorted(session._endpoint._connections, key=id))
        victim.sock.shutdown(socket.SHUT_RDWR)
        for future in futures:
            assert future.result(30) >= 0
    assert mine.released.wait(10)
    eventually(lambda: served.server.sessions, 0)
