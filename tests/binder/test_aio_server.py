"""The asyncio face of servers, coroutines that serve calls, and what being cancelled does."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from avf.binder import (
    DeadObjectError,
    IBinder,
    RemoteException,
    Status,
    StatusError,
    aio,
    bootstrap,
    interface_cast,
    unix,
)
from tests.interop.echo import Echo, IEcho

from .conftest import Serve, listening


class Async:
    """An IEcho of coroutines."""

    def __init__(self) -> None:
        self.appended: list[int] = []
        self.gate = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)
        self.cancelled = 0
        self.released = asyncio.Event()
        self.loop_thread = threading.get_ident()

    async def add_ints(self, a: int, b: int) -> int:
        assert threading.get_ident() == self.loop_thread
        return a + b

    async def echo_string(self, value: str) -> str:
        """Waits until the gate is open."""
        self.waiting.release()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return value

    async def call_back(self, cb: IBinder, n: int) -> int:
        back = aio.proxy(interface_cast(IEcho, cb))
        return sum([await back.echo_string(f"cb{i}") == f"cb{i}" for i in range(n)])

    async def throw_service_specific(self, code: int, message: str) -> None:
        raise RemoteException.service_specific_error(code, message)

    async def count_live_binders(self) -> int:
        return aio.calling_peer().pid or 0

    async def append(self, value: int) -> None:
        await asyncio.sleep(0)
        self.appended.append(value)

    async def get_appended(self) -> list[int]:
        return self.appended

    def on_released(self) -> None:
        assert threading.get_ident() == self.loop_thread
        self.released.set()


@asynccontextmanager
async def serving(path: Path, **options: Any) -> AsyncIterator[tuple[Async, aio.Server]]:
    served = Async()
    async with aio.Server(aio.serving(IEcho, served), **options) as server:
        server.start(listening(path))
        yield served, server


@asynccontextmanager
async def connected(path: Path, incoming_threads: int = 0) -> AsyncIterator[aio.AsyncProxy]:
    session = await aio.connect(unix(path), incoming_threads=incoming_threads, timeout=10)
    async with session:
        yield aio.proxy(await session.get_root(IEcho))


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 30))


def test_coroutines_serve_calls(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "sock"
        async with serving(path, max_threads=3) as (served, server):
            async with connected(path) as root:
                sums = await asyncio.gather(*(root.add_ints(i, 1) for i in range(20)))
                assert sums == list(range(1, 21))
                assert server.sessions == 1
                with pytest.raises(RemoteException, match=r"SERVICE_SPECIFIC\(-7\): x"):
                    await root.throw_service_specific(-7, "x")
                with pytest.raises(StatusError) as raised:
                    await root.open_file("x")
                assert raised.value.status == Status.UNKNOWN_TRANSACTION
                assert await root.count_live_binders() > 1
                with pytest.raises(RuntimeError, match="no binder call"):
                    aio.calling_peer()
            await served.released.wait()

    run(main())


def test_nested_calls_need_no_connection_of_their_own(tmp_path: Path) -> None:
    """The coroutine's calls to its caller take the connection it is served on, as a blocking method's do."""

    async def main() -> None:
        path = tmp_path / "sock"
        async with serving(path), connected(path) as root:
            assert await root.call_back(Echo(), 5) == 5
            mine = Async()
            mine.gate.set()
            assert await root.call_back(aio.serving(IEcho, mine), 3) == 3
            await asyncio.to_thread(lambda: None)

    run(main())


def test_oneway_calls_run_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "sock"
        async with serving(path, max_threads=3) as (served, _), connected(path) as root:
            for i in range(200):
                await root.append(i)
            while len(served.appended) < 200:
                await asyncio.sleep(0.001)
            assert served.appended == list(range(200))

    run(main())


def test_many_calls_may_wait_for_one(tmp_path: Path) -> None:
    """More than a pool of the event loop has threads."""

    async def main() -> None:
        path = tmp_path / "sock"
        async with serving(path, max_threads=40) as (served, _):
            session = await aio.connect(unix(path), max_outgoing=40, timeout=10)
            async with session:
                root = aio.proxy(await session.get_root(IEcho))
                calls = [asyncio.create_task(root.echo_string(str(i))) for i in range(39)]
                for _ in range(39):
                    await served.waiting.acquire()
                assert await root.add_ints(1, 2) == 3
                served.gate.set()
                assert await asyncio.gather(*calls) == [str(i) for i in range(39)]

    run(main())


def test_cancelled_calls_leave_the_session_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "sock"
        async with serving(path, max_threads=4) as (served, server), connected(path) as root:
            for round_ in range(20):
                tasks = [asyncio.create_task(root.echo_string("x")) for _ in range(3)]
                tasks += [asyncio.create_task(root.add_ints(round_, i)) for i in range(10)]
                await asyncio.sleep(0.001 * (round_ % 4))
                for task in tasks:
                    task.cancel()
                served.gate.set()
                await asyncio.gather(*tasks, return_exceptions=True)
                served.gate.clear()
                # Their threads go on; the answers are nobody's.
                served.gate.set()
                assert await root.add_ints(round_, 1000) == round_ + 1000
                served.gate.clear()
            assert server.sessions == 1
            served.gate.set()
            assert await root.echo_string("y") == "y"

    run(main())


def test_a_cancelled_nested_call_leaves_the_session_as_it_is(tmp_path: Path) -> None:
    class Impatient(Async):
        async def call_back(self, cb: IBinder, n: int) -> int:
            back = aio.proxy(interface_cast(IEcho, cb))
            late = 0
            for _ in range(n):
                try:
                    await asyncio.wait_for(back.sleep_ms(60), 0.01)
                except TimeoutError:
                    late += 1
            return late

    async def main() -> None:
        path = tmp_path / "sock"
        async with aio.Server(aio.serving(IEcho, Impatient())) as server:
            server.start(listening(path))
            async with connected(path) as root:
                assert await root.call_back(Echo(), 3) == 3
                assert await root.add_ints(1, 2) == 3

    run(main())


def test_shutting_down_cancels_what_is_being_served(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "sock"
        async with serving(path) as (served, server), connected(path) as root:
            call = asyncio.create_task(root.echo_string("x"))
            await served.waiting.acquire()
            await server.shutdown()
            assert served.cancelled == 1
            with pytest.raises(DeadObjectError):
                await call
            await server.shutdown()

    run(main())


def test_closing_a_session_cancels_its_callbacks(serve: Serve) -> None:
    async def main() -> None:
        path = serve(max_threads=2).path
        session = await aio.connect(unix(path), incoming_threads=1, timeout=10)
        root = aio.proxy(await session.get_root(IEcho))
        mine = Async()
        assert session.version == 1
        await root.hold_binder(aio.serving(IEcho, mine))
        call = asyncio.create_task(root.call_held("x"))
        await mine.waiting.acquire()
        await session.close()
        assert session.closed
        with pytest.raises(DeadObjectError):
            await call

    run(main())


def test_a_callback_that_is_cancelled_fails_for_its_caller(tmp_path: Path) -> None:
    class Quitter(Async):
        async def echo_string(self, value: str) -> str:
            raise asyncio.CancelledError

    async def main() -> None:
        path = tmp_path / "sock"
        async with aio.Server(aio.serving(IEcho, Quitter())) as server:
            server.start(listening(path))
            async with connected(path) as root:
                with pytest.raises(StatusError) as raised:
                    await root.echo_string("x")
                assert raised.value.status == Status.UNKNOWN_ERROR
                assert await root.add_ints(1, 2) == 3

    run(main())


def test_serving_until_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "sock"
        server = aio.Server(aio.serving(IEcho, Async()))
        task = asyncio.create_task(server.serve(listening(path)))
        async with connected(path) as root:
            assert await root.add_ints(1, 2) == 3
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(DeadObjectError):
                await root.add_ints(1, 2)

    run(main())


def test_serving_over_a_bootstrap_socket() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours:
            async with aio.Server(aio.serving(IEcho, Async())) as server:
                task = asyncio.create_task(server.serve_bootstrap(theirs))
                async with await aio.connect(bootstrap(ours), timeout=10) as session:
                    root = aio.proxy(await session.get_root(IEcho))
                    assert await root.add_ints(1, 2) == 3
                    ours.shutdown(socket.SHUT_RDWR)
                    await task
                    assert await root.add_ints(2, 2) == 4

    run(main())


def test_a_cancelled_connect_leaves_nothing(serve: Serve) -> None:
    served = serve()

    async def main() -> None:
        for delay in (0, 0, 0.001, 0.002, 0.005):
            task = asyncio.create_task(
                aio.connect(unix(served.path), incoming_threads=1, timeout=10)
            )
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task

    run(main())
    deadline = time.monotonic() + 10
    while served.server.sessions and time.monotonic() < deadline:
        time.sleep(0.01)
    assert served.server.sessions == 0


def test_objects_of_a_loop_that_is_gone(serve: Serve) -> None:
    async def make() -> IEcho:
        return aio.serving(IEcho, Async())

    root = serve(root=asyncio.run(make())).connect().get_root(IEcho)
    with pytest.raises(StatusError) as raised:
        root.add_ints(1, 2)
    assert raised.value.status == Status.INVALID_OPERATION


def test_what_cannot_be_served() -> None:
    class Bare(IEcho):
        pass

    Bare._contract = None

    async def main() -> None:
        with pytest.raises(TypeError, match="Bare has no descriptor"):
            aio.serving(Bare, Async())
        mine = aio.serving(IEcho, Async())
        with pytest.raises(RuntimeError, match="in the loop"):
            mine.add_ints(1, 2)
        assert isinstance(mine, IEcho)

    run(main())
