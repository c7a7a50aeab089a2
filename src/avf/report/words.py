"""Amounts and times as people read them."""

from datetime import datetime

_MIB = 1 << 20


def duration(seconds: float) -> str:
    """Three figures or so, in the unit that fits: `0.4 ms`, `12 ms`, `1.35 s`, `2 min 5 s`, `3 h 20 min`."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.5:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(amount: int) -> str:
    """In bytes, KiB, MiB or GiB."""
    if amount < 1024:
        return f"{amount} bytes"
    if amount < _MIB:
        return f"{amount / 1024:.1f} KiB"
    if amount < 1 << 30:
        return f"{amount / _MIB:.1f} MiB"
    return f"{amount / (1 << 30):.2f} GiB"


def mib(kb: float) -> str:
    """KiB as MiB."""
    return f"{kb / 1024:,.0f} MiB"


def moment(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def day(time: datetime | None) -> str:
    return "?" if time is None else time.strftime("%Y-%m-%d")


def step(name: str) -> str:
    """The name of a constant as words."""
    return name.replace("_", " ").lower().capitalize()
