"""How much memory this host has left."""

from pathlib import Path

RESERVE_MIB = 512
"""What must be free on the host beside the memory of a new clone."""
DEFAULT_MEMORY_MIB = 256

MEMINFO = Path("/proc/meminfo")


def available_mib() -> int:
    """Raises OSError."""
    for line in MEMINFO.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) >> 10
    raise OSError(f"{MEMINFO} has no MemAvailable")
