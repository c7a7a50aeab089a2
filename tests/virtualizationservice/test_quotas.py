"""Rates by a clock that the test turns."""

from avf.virtualizationservice.quotas import RateLimit


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
