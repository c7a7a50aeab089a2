"""The asyncio face."""

import asyncio
import threading

import pytest

from avf.binder import RemoteException, Status, StatusError, aio, unix
from tests.interop.echo import Echo, IEcho

from .conftest import Serve, Served


def run(served: Served, incoming_threads: int = 1) -> "_Run":
    return _Run(served, incoming_threads)


class _Run:
    """An asynchronous context: a session with its root."""

    def __init__(self, served: Served, incoming_threads: int) -> None:
        self.served = served
        self.incoming_threads = incoming_threads

    async def __aenter__(self) -> tuple[aio.AsyncSession, IEcho]:
        self.session = await aio.connect(
            unix(self.served.path), incoming_threads=self.incoming_threads, timeout=10
        )
        return self.session, await self.session.get_root(IEcho)

    async def __aexit__(self, *error: object) -> None:
        await self.session.close()
        assert self.session.closed


def test_calls_at_once(serve: Serve) -> None:
    served = serve(max_threads=4)

    async def main() -> list[int]:
        async with run(served) as (_, root):
            echo = aio.proxy(root)
            assert await echo.echo_binder(echo.binder) == root
            return list(await asyncio.gather(*(echo.add_ints(i, b=1) for i in range(20))))

    assert asyncio.run(main()) == list(range(1, 21))


def test_callbacks_reach_the_loop(serve: Serve) -> None:
    async def main() -> int:
        seen: asyncio.Queue[int] = asyncio.Queue()
        loop_thread = threading.get_ident()

        class Notified(Echo):
            def on_notify(self, v: int) -> None:
                assert threading.get_ident() != loop_thread
                put(v)

        put = aio.in_loop(seen.put_nowait)
        async with run(serve()) as (_, root):
            await aio.proxy(root).oneway_notify(Notified(), 6)
            return await asyncio.wait_for(seen.get(), 10)

    assert asyncio.run(main()) == 7


def test_waiting_for_a_death(serve: Serve) -> None:
    served = serve()

    async def main() -> None:
        async with run(served) as (_, root):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(aio.death(root), 0.01)
            assert root._remote is not None
            assert root._remote.recipients == []
            waiting = asyncio.create_task(aio.death(root))
            await asyncio.sleep(0)
            await asyncio.to_thread(served.server.shutdown)
            await asyncio.wait_for(waiting, 10)
            await aio.death(root)

    asyncio.run(main())


def test_errors_are_those_of_the_call(serve: Serve) -> None:
    async def main() -> None:
        async with run(serve(), incoming_threads=0) as (_, root):
            echo = aio.proxy(root)
            with pytest.raises(AttributeError, match="no AIDL method nothing"):
                echo.nothing  # noqa: B018
            with pytest.raises(RemoteException, match=r"return_null failed with TypeError"):
                await echo.return_null()
            with pytest.raises(StatusError) as raised:
                await aio.death(root)
            assert raised.value.status == Status.INVALID_OPERATION

    asyncio.run(main())
    with pytest.raises(FileNotFoundError):
        asyncio.run(aio.connect(unix("/nonexistent")))
