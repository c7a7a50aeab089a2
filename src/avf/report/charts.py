"""The pictures of a report, as inline SVG: the phases of the start, and what was used over time.

No attribute is a style: the page's policy forbids them, so classes say what a part is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from avf.client import LifecycleStep, MetricsSample, Phase, Timeline
from avf.report.html import Html, element, join
from avf.report.scale import Scale, round_top
from avf.report.words import duration, step

WIDTH = 960
_LABELS = 118
_NUMBERS = 118
_ROW = 24
_BAR = 14
_HEAD = 30
_GROUP = 30
_LEAST_BAR = 1.5
_MARKED = (LifecycleStep.CREATED, LifecycleStep.START_ASKED, LifecycleStep.STARTED)
"""Moments that are drawn as lines; the start of the payload is the right edge."""


def start_chart(timeline: Timeline) -> Html:
    """Each phase as a bar at its time; the host's above the guest's."""
    groups = [
        (title, kind, [phase for phase in timeline.phases if phase.in_guest == in_guest])
        for title, kind, in_guest in (("Host", "host", False), ("Guest", "guest", True))
    ]
    groups = [group for group in groups if group[2]]
    rows = sum(len(phases) for _, _, phases in groups)
    height = _HEAD + len(groups) * _GROUP + rows * _ROW + 8
    scale = Scale(timeline.end, _LABELS, WIDTH - _NUMBERS)
    return _svg(
        height,
        "The phases of the start",
        *_time_axis(scale, 0, _HEAD - 10, height - 4, 6),
        *_moments(timeline, scale, height),
        *_groups(groups, scale, timeline.end),
    )


def _groups(
    groups: list[tuple[str, str, list[Phase]]], scale: Scale, whole: float
) -> Iterator[Html]:
    y = float(_HEAD)
    for title, kind, phases in groups:
        yield element("text", title, x=0, y=y + 20, class_=f"group {kind}")
        y += _GROUP
        for phase in phases:
            yield _phase(phase, kind, scale, y, whole)
            y += _ROW


def _phase(phase: Phase, kind: str, scale: Scale, y: float, whole: float) -> Html:
    left, right = scale(phase.begin), scale(phase.end)
    middle = y + _ROW / 2
    share = 100 * phase.duration / whole if whole else 0
    said = f"{phase.name}: {duration(phase.duration)}, from {duration(phase.begin)} on"
    return element(
        "g",
        element("title", said),
        element("rect", x=0, y=y, width=WIDTH, height=_ROW, class_="row"),
        element("text", phase.name, x=12, y=middle + 4, class_="label"),
        element(
            "rect",
            x=left,
            y=middle - _BAR / 2,
            width=max(_LEAST_BAR, round(right - left, 2)),
            height=_BAR,
            rx=2,
            class_=f"bar {kind}",
        ),
        element("text", duration(phase.duration), x=WIDTH - 52, y=middle + 4, class_="number"),
        element("text", f"{share:.1f}%", x=WIDTH, y=middle + 4, class_="number faint"),
    )


def _moments(timeline: Timeline, scale: Scale, height: float) -> Iterator[Html]:
    for moment in timeline.moments:
        if moment.step in _MARKED:
            text = f"{step(moment.step.name)}: {duration(moment.time)}"
            yield _mark(scale(moment.time), text, _HEAD, height - 4)


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve: a value for each sample, and what it is."""

    title: str
    kind: str
    value: Callable[[int], float]
    """Of the sample with that number."""


_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 28
_CURVES_HEIGHT = 190


def curves_chart(
    title: str,
    times: Sequence[float],
    curves: Sequence[Curve],
    unit: Callable[[float], str],
    *,
    stepped: bool,
    began: float | None,
) -> Html:
    """Curves over the same times; the area below the first one is filled. `unit` writes a value.

    `stepped`: a value is that of the time since the sample before. `began`: when the payload was started.
    """
    highest = max(curve.value(index) for curve in curves for index in range(len(times)))
    top = round_top(highest, 4)
    bottom = _CURVES_HEIGHT - _BOTTOM
    x = Scale(times[-1] or 1.0, _LEFT, WIDTH - _RIGHT)
    y = Scale(top, bottom, _TOP)
    return _svg(
        _CURVES_HEIGHT,
        title,
        *_value_axis(y, unit),
        *_time_axis(x, bottom, _CURVES_HEIGHT - 8, bottom, 8),
        _mark(x(began), "The payload was started", _TOP, bottom)
        if began is not None and began <= times[-1]
        else None,
        *(
            part
            for number, curve in enumerate(curves)
            for part in _curve(curve, times, x, y, filled=number == 0, stepped=stepped)
        ),
    )


def _curve(
    curve: Curve, times: Sequence[float], x: Scale, y: Scale, *, filled: bool, stepped: bool
) -> Iterator[Html]:
    values = [y(curve.value(index)) for index in range(len(times))]
    places = [x(time) for time in times]
    corners = list(zip(places, values, strict=True))
    if stepped:
        lefts = [x(0), *places]
        corners = [
            point
            for before, place, value in zip(lefts, places, values, strict=False)
            for point in ((before, value), (place, value))
        ]
    path = " L".join(f"{a:g} {b:g}" for a, b in corners)
    if filled:
        first, last, ground = corners[0][0], corners[-1][0], y(0)
        yield element(
            "path",
            d=f"M{first:g} {ground:g} L{path} L{last:g} {ground:g} Z",
            class_=f"area {curve.kind}",
        )
    if len(corners) == 1:
        yield element("circle", cx=corners[0][0], cy=corners[0][1], r=3, class_=f"dot {curve.kind}")
    yield element("path", d=f"M{path}", class_=f"curve {curve.kind}")


def _mark(x: float, text: str, top: float, bottom: float) -> Html:
    """A moment, as a line."""
    return element("line", element("title", text), x1=x, x2=x, y1=top, y2=bottom, class_="moment")


def memory_chart(history: Sequence[MetricsSample], began: float | None) -> Html:
    """MiB of the host's memory: the guest's, and that of the whole process around it."""
    times = [sample.uptime for sample in history]
    return curves_chart(
        "Memory",
        times,
        (
            Curve("guest", "guest", lambda index: history[index].rss_vm_kb / 1024),
            Curve("VMM", "host", lambda index: history[index].rss_vmm_kb / 1024),
        ),
        lambda value: f"{value:,.0f} MiB",
        stepped=False,
        began=began,
    )


def cpu_chart(history: Sequence[MetricsSample], began: float | None) -> Html:
    """Percent of one CPU between each two samples."""
    times = [sample.uptime for sample in history]
    used = cpu_percents(history)
    return curves_chart(
        "CPU",
        times,
        (Curve("CPU", "host", lambda index: used[index]),),
        lambda value: f"{value:.0f}%",
        stepped=True,
        began=began,
    )


def cpu_percents(history: Sequence[MetricsSample]) -> list[float]:
    """What share of one CPU was used before each sample, since the one before it or the start."""
    found = []
    time, used = 0.0, 0
    for sample in history:
        passed = sample.uptime - time
        share = (sample.cpu_time_millis - used) / 10 / passed if passed > 0 else 0.0
        found.append(max(0.0, share))
        time, used = sample.uptime, sample.cpu_time_millis
    return found


def _time_axis(
    scale: Scale, top: float, labels: float, bottom: float, count: int
) -> Iterator[Html]:
    for mark in scale.marks(count):
        x = scale(mark)
        yield element(
            "line", x1=x, x2=x, y1=max(top, 24) if top == 0 else _TOP, y2=bottom, class_="grid"
        )
        yield element("text", _seconds(mark, scale.top), x=x, y=labels, class_="tick middle")


def _value_axis(scale: Scale, unit: Callable[[float], str]) -> Iterator[Html]:
    for mark in scale.marks(4):
        y = scale(mark)
        yield element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid")
        yield element("text", unit(mark), x=_LEFT - 8, y=y + 4, class_="tick end")


def _seconds(value: float, top: float) -> str:
    """All marks of an axis have one unit."""
    if value == 0:
        return "0"
    if top < 2:
        return f"{value * 1000:.0f} ms"
    return f"{value:g} s" if top < 600 else f"{value / 60:g} min"


def _svg(height: float, title: str, *parts: Html | None) -> Html:
    """Not smaller than it can be read: on a narrow screen it is moved sideways."""
    picture = element(
        "svg",
        element("title", title),
        join(*parts),
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_label=title,
        class_="chart",
    )
    return element("div", picture, class_="wide")
