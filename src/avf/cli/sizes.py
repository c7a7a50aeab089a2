"""Amounts on the command line: plain numbers, or with a unit as in 512M and 10G."""

import re
from typing import Any

import click

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SIZE = re.compile(r"(\d{1,20})\s*(|[kmgt])(i?b)?", re.IGNORECASE)
_MAX = (1 << 63) - 1


class WholeNumber(click.IntRange):
    """A number from `min` to `max`."""

    name = "whole number"


class Number(click.FloatRange):
    """A number that may have a decimal point, from `min` to `max`."""

    name = "number"


class Size(click.ParamType):  # type: ignore[type-arg]  # older ones are not generic
    """A number of `unit` bytes; K, M, G and T are powers of 1024, and name bytes whatever the unit is."""

    name = "size"

    def __init__(self, unit: str = "", *, minimum: int = 0, maximum: int = _MAX) -> None:
        """`unit`: what a plain number counts, "" for bytes, "m" for MiB; `minimum` and `maximum` in that unit."""
        self._shift = _UNITS[unit]
        self._what = f"{unit.upper()}iB" if unit else "bytes"
        self._range = minimum, maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(value.strip())
        if found is None or (found[3] and not found[2] and found[3].lower() != "b"):
            self.fail(
                f"{value!r} is no size; sizes look like 512M, 10G or, in {self._what}, like 512.",
                param,
                ctx,
            )
        number = int(found[1])
        if found[2] or found[3]:
            size = number << _UNITS[found[2].lower()]
            if size % (1 << self._shift):
                self.fail(f"{value!r} is not a whole number of {self._what}.", param, ctx)
            number = size >> self._shift
        least, most = self._range
        if not least <= number <= most:
            self.fail(f"{value!r} is not from {least} to {most} {self._what}.", param, ctx)
        return number
