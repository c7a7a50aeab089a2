"""The threads behind asyncio's calls."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from avf.binder.workers import Workers
from tests.eventually import eventually


def test_calls_that_wait_for_one_another_all_get_a_thread() -> None:
    async def main() -> None:
        workers = Workers()
        together = threading.Barrier(40)
        await asyncio.gather(*(workers.submit(together.wait) for _ in range(40)))
        assert workers._count == 40

    asyncio.run(main())


def test_calls_one_after_another_share_a_thread_which_ends_later() -> None:
    async def main() -> Workers:
        workers = Workers(kept=0.05)
        idents = []
        for _ in range(20):
            idents.append(await workers.submit(threading.get_ident))
            while not workers._idle:
                await asyncio.sleep(0)
        assert len(set(idents)) == 1
        return workers

    workers = asyncio.run(main())
    eventually(lambda: workers._count, 0)


def test_calls_beyond_the_number_of_threads_wait_for_one() -> None:
    async def main() -> list[int]:
        workers = Workers(most=2)
        go_on = threading.Event()
        held = [workers.submit(go_on.wait) for _ in range(2)]
        more = [workers.submit(lambda number=number: number) for number in range(10)]
        assert len(workers._waiting) == 10
        go_on.set()
        await asyncio.gather(*held)
        assert workers._count == 2
        return await asyncio.gather(*more)

    assert asyncio.run(main()) == list(range(10))


def test_a_call_that_waits_and_is_cancelled_is_not_made() -> None:
    async def main() -> list[str]:
        workers = Workers(most=1)
        go_on, made = threading.Event(), list[str]()
        first = workers.submit(go_on.wait)
        cancelled = workers.submit(lambda: made.append("cancelled"))
        last = workers.submit(lambda: made.append("last"))
        cancelled.cancel()
        go_on.set()
        await asyncio.gather(first, last)
        return made

    assert asyncio.run(main()) == ["last"]


def raising(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("raised", "wanted"),
    [
        (ValueError("x"), ValueError),
        (asyncio.CancelledError(), asyncio.CancelledError),
        (StopIteration(5), RuntimeError),
        (TimeoutError("x"), TimeoutError),
    ],
)
def test_what_a_call_raises_is_raised_where_it_is_awaited(
    raised: BaseException, wanted: type[BaseException]
) -> None:
    async def main() -> None:
        with pytest.raises(wanted):
            await Workers().submit(raising(raised))

    asyncio.run(main())


def test_a_result_that_nobody_awaits_is_let_go_of() -> None:
    class Result:
        pass

    async def main() -> None:
        workers = Workers()
        begun, go_on = threading.Event(), threading.Event()
        made: list[weakref.ref[Result]] = []

        def call() -> Result:
            begun.set()
            go_on.wait()
            result = Result()
            made.append(weakref.ref(result))
            return result

        future = workers.submit(call)
        await asyncio.to_thread(begun.wait)
        future.cancel()
        go_on.set()
        while not workers._idle:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        assert [reference() for reference in made] == [None]

    asyncio.run(main())


def test_a_loop_that_is_closed_meanwhile_harms_no_thread() -> None:
    workers = Workers(most=1)
    go_on = threading.Event()

    async def left() -> None:
        workers.submit(go_on.wait)

    asyncio.run(left())
    go_on.set()

    async def main() -> int:
        return await workers.submit(lambda: 5)

    assert asyncio.run(main()) == 5
