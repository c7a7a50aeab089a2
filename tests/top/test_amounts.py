"""Samples, curves and words for amounts."""

import pytest

from avf.client.control import MetricsSample, VmMetrics
from avf.top.background import lightness, lightness_of_number
from avf.top.plot import area, over_time, sparkline
from avf.top.samples import History
from avf.top.words import count, mib, percent, span


def metrics(cpu_millis: int, guest_kb: int = 1024, vmm_kb: int = 2048) -> VmMetrics:
    return VmMetrics(cpu_millis, 0, guest_kb, vmm_kb, 0, 0)


def test_the_first_sample_is_of_all_the_time_since_the_start() -> None:
    history = History()
    history.add(100.0, metrics(2000), uptime=10.0)
    history.add(102.0, metrics(3000), uptime=12.0)
    history.add(102.0, metrics(3000), uptime=12.0)
    assert [sample.cpu_percent for sample in history.samples()] == [20.0, 50.0]
    assert (history.samples()[0].guest_mib, history.samples()[0].vmm_mib) == (1.0, 2.0)


def test_what_was_measured_before_comes_first() -> None:
    history = History()
    earlier = [MetricsSample(1.0, 500, 0, 1024, 2048), MetricsSample(2.0, 700, 0, 1024, 2048)]
    history.add_earlier(110.0, 10.0, earlier)
    history.add(110.0, metrics(1500), uptime=10.0)
    told = [(sample.at, sample.cpu_percent) for sample in history.samples()]
    assert told == [(101.0, 50.0), (102.0, 20.0), (110.0, 10.0)]


def test_a_history_is_bounded_and_never_negative() -> None:
    history = History(length=4)
    for at in range(1, 10):
        history.add(float(at), metrics(-1000 * at), uptime=1.0)
    assert [sample.at for sample in history.samples()] == [6.0, 7.0, 8.0, 9.0]
    assert {sample.cpu_percent for sample in history.samples()} == {0.0}


def test_a_sparkline() -> None:
    assert sparkline([0, 0.1, 50, 100, 400], 7, 100) == "   ▁▄██"
    assert sparkline([1, 2, 3], 2, 3) == "▅█"
    assert sparkline([], 3, 100) == "   "
    assert sparkline([float("nan"), 1], 2, 0) == "  "


def test_an_area() -> None:
    assert area([0, 8], 1, 2, 8) == ["⢸", "⢸"]
    assert area([4, 8], 1, 2, 8) == ["⢸", "⣿"]
    assert area([1], 2, 1, 4) == ["⠀⢀"]
    assert area([1], 0, 1, 4) == [] == area([1], 1, 0, 4)


def test_values_over_time() -> None:
    assert over_time([0, 1, 2], [5, 6, 7], 9) == [5, 6, 7]
    assert over_time([0, 0.25, 0.5, 1.5], [4, 5, 6, 9], 9) == [5, 9]
    assert over_time([0, 10], [1, 2], 4, seconds=2) == [1, 1, 1, 2]
    assert over_time([0, 4, 10], [1, 5, 2], 4, seconds=2) == [5, 5, 5, 2]
    means = over_time([float(at) for at in range(900)], [3.0] * 900, 78)
    assert 70 < len(means) <= 78 and set(means) == {3.0}
    assert over_time([], [], 5) == [] == over_time([1], [1], 0)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (percent(0.04), "0.0%"), (percent(9.94), "9.9%"), (percent(9.96), "10%"), (percent(None), "-"),
        (mib(0), "0M"), (mib(999.4), "999M"), (mib(1536), "1.5G"), (mib(None), "-"),
        (span(59.9), "59s"), (span(61), "1m01s"), (span(7620), "2h07m"), (span(90_000 * 4), "4d04h"),
        (span(None), "-"), (count(1, "VM"), "1 VM"), (count(12_345, "line"), "12,345 lines"),
    ],
)  # fmt: skip
def test_words(told: str, expected: str) -> None:
    assert told == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"\x1b]11;rgb:ffff/ffff/ffff\x1b\\\x1b[?62;4c", 1.0),
        (b"\x1b]11;rgb:00/00/00\x07", 0.0),
        (b"\x1b]11;rgba:f/f/f/f\x1b\\", 1.0),
        (b"\x1b[?62c", None),
        (b"", None),
    ],
)
def test_what_a_terminal_says_of_its_background(answer: bytes, expected: float | None) -> None:
    assert lightness(answer) == (None if expected is None else pytest.approx(expected))


def test_colorfgbg() -> None:
    said = [lightness_of_number(text) for text in ("0;15", "15;0", "0;default;7", "", "x", "99999")]
    assert said == [1.0, 0.0, 1.0, None, None, None]
