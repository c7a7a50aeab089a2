"""A start's timeline as lines of text: what took how long, of which part of it, and when."""

from collections.abc import Iterator
from typing import TextIO

from avf.client import Phase, Timeline
from avf.printable import printable

WIDTH = 40
"""Of the bars, in characters."""


def timeline_lines(timeline: Timeline, *, blocks: bool = True) -> Iterator[str]:
    """`blocks`: whether block characters can be shown."""
    whole = timeline.end
    came = "until the payload was started" if timeline.duration is not None else "as far as it came"
    yield f"{timeline.title}: {_ms(whole)} ms {came}"
    if not timeline.phases:
        return
    name = max(len(phase.name) for phase in timeline.phases)
    yield f"         {'phase'.ljust(name)}  {'ms':>8}  {'share':>6}"
    party = ""
    for phase in timeline.phases:
        now = "guest" if phase.in_guest else "host"
        shown = "" if now == party else now
        party = now
        share = 100 * phase.duration / whole if whole else 0
        yield (
            f"  {shown:5}  {printable(phase.name).ljust(name)}  {_ms(phase.duration):>8}"
            f"  {share:5.1f}%  {_bar(phase, whole, blocks)}"
        ).rstrip()
    if timeline.guest_error is not None:
        yield f"  The guest's times are exact to {_ms(timeline.guest_error)} ms."


def can_show_blocks(stream: TextIO) -> bool:
    """Whether the stream's encoding has block characters."""
    try:
        "█▏".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _bar(phase: Phase, whole: float, blocks: bool) -> str:
    """From the phase's begin to its end on a line that is the whole start; never nothing."""
    if not whole:
        return ""
    begin, end = (round(at / whole * WIDTH * 8) for at in (phase.begin, phase.end))
    left = min(begin // 8, WIDTH - 1)
    right = max(left + 1, -(-end // 8))
    if not blocks:
        return " " * left + "#" * (right - left)
    if end - begin < 8:
        return " " * left + "▏"
    return " " * left + "█" * max(1, round(end / 8) - left)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"
