"""Amounts in few characters."""

MINUTE, HOUR, DAY = 60, 3600, 86400


def percent(value: float | None) -> str:
    """`0.4%`, `37%`, `400%`."""
    if value is None:
        return "-"
    return f"{value:.1f}%" if value < 9.95 else f"{value:.0f}%"


def mib(value: float | None) -> str:
    """`0M`, `123M`, `1.5G`."""
    if value is None:
        return "-"
    return f"{value:.0f}M" if value < 1000 else f"{value / 1024:.1f}G"


def span(seconds: float | None) -> str:
    """`12s`, `3m05s`, `2h07m`, `4d03h`."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02}s"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    return f"{whole // DAY}d{whole % DAY // HOUR:02}h"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 VM`, `2 VMs`, `12,345 lines`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
