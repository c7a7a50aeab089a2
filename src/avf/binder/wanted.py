"""Check what callers of this package's functions give, so that the error names the argument in words."""

import math


def check_type(what: str, value: object, *kinds: type) -> None:
    """TypeError unless `value` is of one of `kinds`; a bool is no int."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise TypeError(f"{what}: {names} wanted, not {type(value).__name__}")


def check_number(what: str, value: object, low: int, high: int) -> None:
    """TypeError unless `value` is an int, ValueError unless it is from `low` to `high`."""
    check_type(what, value, int)
    assert isinstance(value, int)
    if not low <= value <= high:
        raise ValueError(f"{what} must be from {low} to {high}, not {value}")


def check_count(what: str, value: object, low: int) -> None:
    """TypeError unless `value` is an int, ValueError if it is below `low`."""
    check_type(what, value, int)
    assert isinstance(value, int)
    if value < low:
        raise ValueError(f"{what} must be at least {low}, not {value}")


def check_seconds(what: str, value: object, *, optional: bool = True) -> None:
    """TypeError unless `value` is a number, or None if it is `optional`; ValueError if it is NaN.

    A negative number is what is left of a deadline that has passed.
    """
    check_type(what, value, int, float, *([type(None)] if optional else []))
    assert value is None or isinstance(value, int | float)
    if value is not None and math.isnan(value):
        raise ValueError(f"{what} must be a number of seconds, not {value}")
