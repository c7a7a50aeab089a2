"""Which processes are whose children."""

import os
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The children of a process's main thread; none once it has ended."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        if not Path("/proc/self/task", str(os.getpid()), "children").exists():
            return _search(pid)  # the kernel is built without CONFIG_PROC_CHILDREN
        return []


def parent_of(pid: int) -> int | None:
    """The parent of a process; None once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _search(pid: int) -> list[int]:
    numbers = (int(name) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208
    return [number for number in numbers if parent_of(number) == pid]
