"""Curves made of characters."""

from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_BRAILLE = 0x2800
_LEFT, _RIGHT = (0x40, 0x44, 0x46, 0x47), (0x80, 0xA0, 0xB0, 0xB8)
"""The dots of a braille character's columns, filled up from below with 1 to 4."""


def sparkline(values: Sequence[float], width: int, top: float) -> str:
    """One line, a character a value, the last value at the right; `top` is a full block."""
    shown = values[-width:] if width else []
    return "".join(_BLOCKS[_level(value, top, 8)] for value in shown).rjust(width)


def area(values: Sequence[float], width: int, height: int, top: float) -> list[str]:
    """Lines from above, two values a character, the last value at the right; `top` reaches the upper edge."""
    if width <= 0 or height <= 0:
        return []
    dots = [_level(value, top, 4 * height) for value in values[-2 * width :]]
    dots = [0] * (2 * width - len(dots)) + dots
    pairs = list(zip(dots[::2], dots[1::2], strict=True))
    return [
        "".join(chr(_BRAILLE + _column(left, row, _LEFT) + _column(right, row, _RIGHT)) for left, right in pairs)
        for row in reversed(range(height))
    ]  # fmt: skip


def over_time(
    times: Sequence[float], values: Sequence[float], room: int, seconds: float | None = None
) -> list[float]:
    """At most `room` means of equal lengths of time, the last of which ends at the last time.

    `seconds`: how long each is; None: as long as lets all of them fit in, but a second at least. A length without a
    value has the one before it.
    """
    if not times or room <= 0:
        return []
    last = times[-1]
    length = seconds or max(1.0, (last - times[0]) / room)
    groups: dict[int, list[float]] = {}
    for at, value in zip(times, values, strict=True):
        groups.setdefault(int((last - at) / length), []).append(value)
    means: list[float] = []
    value = next((group[-1] for back, group in reversed(groups.items()) if back >= room), 0.0)
    for back in range(min(room - 1, max(groups)), -1, -1):
        if group := groups.get(back):
            value = sum(group) / len(group)
        means.append(value)
    return means


def _column(dots: int, row: int, filled: tuple[int, ...]) -> int:
    here = min(4, dots - 4 * row)
    return filled[here - 1] if here > 0 else 0


def _level(value: float, top: float, levels: int) -> int:
    """From 0 to `levels`; what is not nothing is at least 1."""
    if not value > 0 or not top > 0:
        return 0
    return max(1, min(levels, round(min(value / top, 1.0) * levels)))
