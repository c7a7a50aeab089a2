"""What is kept of the samples of a VM's life."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.virtmgr.history import OLDER_STEPS, RECENT_SAMPLES, History, Sample
from avf.virtmgr.metrics import (
    FIRST_SAMPLE_SECONDS,
    FIRST_SAMPLES,
    LARGEST_SHARE,
    SAMPLE_SECONDS,
    pause_after,
)

BOUND = RECENT_SAMPLES + OLDER_STEPS


def filled(count: int) -> tuple[History, list[Sample]]:
    """A history of a second a sample, and all that it was given; memory goes up and down."""
    history = History()
    samples = [
        Sample(1000 * n, 600 * n, 0, 100_000 + 977 * n % 50_000, 200_000 + 613 * n % 70_000)
        for n in range(count)
    ]
    for sample in samples:
        history.add(sample)
    return history, samples


def test_a_short_life_is_kept_as_it_was() -> None:
    history, samples = filled(BOUND - 1)
    assert history.after(-1) == samples


@given(count=st.integers(1, 20_000))
def test_a_life_of_any_length(count: int) -> None:
    """The bound holds, the last minutes are exact, times go forward, and the highest memory is never lost."""
    history, samples = filled(count)
    kept = history.after(-1)
    assert len(kept) <= BOUND
    assert kept[-RECENT_SAMPLES:] == samples[-RECENT_SAMPLES:]
    times = [sample.uptime_millis for sample in kept]
    assert times == sorted(set(times))
    assert all(sample.cpu_millis * 1000 == sample.uptime_millis * 600 for sample in kept)
    for field in ("rss_vm_kb", "rss_vmm_kb"):
        peaks = [max(getattr(sample, field) for sample in some) for some in (kept, samples)]
        assert peaks[0] == peaks[1]


def test_the_steps_of_a_long_life_cover_all_of_it() -> None:
    history, samples = filled(100_000)
    times = [sample.uptime_millis for sample in history.after(-1)]
    gaps = [later - earlier for earlier, later in zip([0, *times], times, strict=False)]
    assert times[-1] == samples[-1].uptime_millis
    assert max(gaps) <= 2 * samples[-1].uptime_millis / (OLDER_STEPS / 2)


@given(number=st.integers(0, 1000), cost=st.floats(0, 10))
def test_sampling_takes_a_small_share_of_a_cpu(number: int, cost: float) -> None:
    pause = pause_after(number, cost)
    assert cost <= LARGEST_SHARE * pause * (1 + 1e-9)
    assert pause >= (FIRST_SAMPLE_SECONDS if number < FIRST_SAMPLES else SAMPLE_SECONDS)


@pytest.mark.parametrize("after", [-1, 0, 5_000, 299_000, 10**9])
def test_only_what_is_later(after: int) -> None:
    history, samples = filled(300)
    assert history.after(after) == [s for s in samples if s.uptime_millis > after]
