"""The order of oneway calls, by the numbers they came with."""

import pytest

from avf.binder.oneway import OnewayOrder


def run(steps: list[int | str]) -> tuple[list[int], list[int]]:
    """What ran, and what was left, of calls that came with these numbers; "back" is a give-back between them."""
    order: OnewayOrder[int] = OnewayOrder()
    ran: list[int] = []
    for step in steps:
        call: int | None = None
        if isinstance(step, str):
            order.renew()
            call = order.start()
        elif order.begin(step):
            call = step
        else:
            order.add(step, step)
            call = order.start()
        while call is not None:
            assert order.busy
            ran.append(call)
            call = order.done()
    return ran, order.clear()


@pytest.mark.parametrize(
    ("steps", "ran"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([2, 1, 0, 3], [0, 1, 2, 3]),
        # The caller goes on counting after it has given references back, as ours does.
        ([0, 1, "back", 2, 3], [0, 1, 2, 3]),
        ([0, 1, "back", 3, 2], [0, 1, 2, 3]),
        # It counts from 0 again, as libbinder does.
        ([0, 1, "back", 0, 1, 2, 3], [0, 1, 0, 1, 2, 3]),
        ([0, 1, 2, "back", 1, 4, 0, 2, 3], [0, 1, 2, 0, 1, 2, 3, 4]),
        ([0, "back", 0, "back", 0, "back", 0], [0, 0, 0, 0]),
        # The calls of the new beginning overtake the give-back.
        ([0, 1, 0, "back", 1, 2], [0, 1, 0, 1, 2]),
        ([0, 1, 1, 0, "back", 2], [0, 1, 0, 1, 2]),
        # One of them has the number that was expected next: it is not run twice, nor waited for.
        ([0, 1, "back", 2, 0, 1, 3], [0, 1, 2, 0, 1, 3]),
        ([0, 1, "back", 2, 3, 0, 4, 1], [0, 1, 2, 3, 0, 1, 4]),
    ],
)
def test_what_runs(steps: list[int | str], ran: list[int]) -> None:
    assert run(steps) == (ran, [])


@pytest.mark.parametrize(
    ("steps", "ran", "left"),
    [
        ([0, 1, 1, 0, 2], [0, 1, 2], [1, 0]),
        ([0, 2, 3], [0], [2, 3]),
        ([0, 0], [0], [0]),
    ],
)
def test_what_is_not_run_is_not_lost_sight_of(
    steps: list[int | str], ran: list[int], left: list[int]
) -> None:
    assert run(steps) == (ran, left)


def test_a_call_that_came_twice_waits_for_nothing_that_keeps_references() -> None:
    order: OnewayOrder[str] = OnewayOrder()
    assert order.begin(0)
    assert order.done() is None
    order.add(0, "again")
    assert order.start() is None
    assert not order.busy
    assert len(order) == 1
