"""From values to places on a picture, and where its axis has marks."""

import math
from dataclasses import dataclass

_LEAST = 1e-9
"""What is less is nothing."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from 0 to `top` on the places from `first` to `last`."""

    top: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        part = min(max(value / self.top, 0.0), 1.0) if self.top > 0 else 0.0
        return round(self.first + part * (self.last - self.first), 2)

    def marks(self, count: int) -> list[float]:
        """Round values from 0 to the top, `count` of them or a few less or more."""
        if self.top < _LEAST:
            return [0.0]
        step = round_step(self.top / count)
        return [number * step for number in range(int(self.top / step + 1e-9) + 1)]


def round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is not less."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in _STEPS if factor * power >= least * (1 - 1e-9))


def round_top(value: float, count: int) -> float:
    """The round value above `value` that `count` marks or so lead to."""
    if value < _LEAST:
        return 1.0
    step = round_step(value / count)
    return math.ceil(value / step - 1e-9) * step
