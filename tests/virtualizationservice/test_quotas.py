"""Rates by a clock that the test turns, connections by threads that it ends."""

import threading

from avf.binder import Peer
from avf.virtualizationservice.parties import Parties
from avf.virtualizationservice.quotas import ConnectionQuota, RateLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_a_rate() -> None:
    clock = Clock()
    limit = RateLimit(3, 0.5, clock=clock)
    assert [limit.take(1) for _ in range(4)] == [True, True, True, False]
    assert limit.take(2)
    clock.now += 1.9
    assert not limit.take(1)
    clock.now += 0.2
    assert [limit.take(1) for _ in range(2)] == [True, False]
    clock.now += 1000
    assert [limit.take(1) for _ in range(4)] == [True, True, True, False]


def test_those_who_were_quiet_are_forgotten() -> None:
    clock = Clock()
    limit = RateLimit(1, 1, clock=clock)
    for key in range(5000):
        assert limit.take(key)
        clock.now += 0.01
    assert len(limit._buckets) <= 1100
    assert not limit.take(4999)


def test_connections() -> None:
    quota = ConnectionQuota(Parties(), 100, 2)
    end = threading.Event()
    admitted: list[bool] = []

    def serve(uid: int) -> threading.Thread:
        decided = threading.Event()

        def run() -> None:
            admitted.append(quota(Peer(uid=uid)))
            decided.set()
            end.wait()

        thread = threading.Thread(target=run)
        thread.start()
        decided.wait()
        return thread

    threads = [serve(uid) for uid in (1, 1, 1, 2, 0, 0, 0)]  # 1 and 2 are daemon and bin
    assert admitted == [True, True, False, True, True, True, True]
    end.set()
    for thread in threads:
        thread.join()
    assert quota(Peer(uid=1))
    assert not quota(Peer())
