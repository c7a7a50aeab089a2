"""Axes whose marks are round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.report.charts import cpu_percents
from avf.report.scale import Scale, round_step, round_top
from avf.report.words import duration, size
from tests.report.made import report


@given(st.floats(1e-6, 1e9), st.integers(2, 12))
def test_marks(top: float, count: int) -> None:
    marks = Scale(top, 0, 960).marks(count)
    assert marks[0] == 0
    assert 1 < len(marks) <= count + 1
    assert marks[-1] <= top * (1 + 1e-9)
    assert top - marks[-1] < marks[1] * (1 + 1e-6)


@given(st.floats(1e-6, 1e9))
def test_steps_are_the_next_round_ones(least: float) -> None:
    step = round_step(least)
    assert least * (1 - 1e-6) <= step <= least * 2.5
    assert float(f"{step:.1e}") == pytest.approx(step)


@given(st.floats(0, 1e9))
def test_the_top_is_above_every_value(value: float) -> None:
    assert round_top(value, 4) >= value * (1 - 1e-9) > -1


@given(st.floats(-10, 20))
def test_values_beyond_the_ends_stay_on_the_picture(value: float) -> None:
    assert 5 <= Scale(10, 5, 25)(value) <= 25
    assert 5 <= Scale(0, 5, 25)(value) <= 25


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 ms"), (0.0004, "0.4 ms"), (0.0123, "12 ms"), (0.99949, "999 ms"), (0.9996, "1.00 s"),
     (9.996, "10.0 s"), (42, "42.0 s"), (125, "2 min 5 s"), (12_000, "3 h 20 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 bytes"), (2048, "2.0 KiB"), (10 << 20, "10.0 MiB"), (3 << 29, "1.50 GiB")],
)
def test_sizes(amount: int, text: str) -> None:
    assert size(amount) == text


def test_cpu_is_what_was_used_since_the_sample_before() -> None:
    assert cpu_percents(report().history[:4]) == [0.0, 50.0, 50.0, 50.0]
