"""/etc/subuid: which user owns which range of subordinate uids (subuid(5))."""

import errno
import logging
import os
import stat
import threading
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

from avf.trust import others_may_write

SUBUID_FILE = Path("/etc/subuid")
MAX_SUBUID_BYTES = 1 << 20
MAX_COMPLAINTS = 5
_UID_END = 1 << 32

log = logging.getLogger(__name__)


class Range(NamedTuple):
    """Uids from `start`, before `end`."""

    start: int
    end: int
    owner: str
    """A user's name or number."""


class SubuidFile:
    """The ranges in force: those of the file as it is now. A file that is missing or cannot be trusted has none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._state: tuple[int, ...] | None = None
        self._ranges: list[Range] = []
        self._owners: frozenset[str] = frozenset()

    def owner_of(self, uid: int) -> str | None:
        """The owner, as the file names it, of the range that `uid` is in."""
        ranges = self._current()
        at = bisect_right(ranges, uid, key=lambda r: r.start) - 1
        return ranges[at].owner if at >= 0 and uid < ranges[at].end else None

    def is_owner(self, owner: str) -> bool:
        """Whether a range belongs to `owner`, a name or a number as in the file."""
        self._current()
        return owner in self._owners

    def _current(self) -> list[Range]:
        with self._lock:
            if (state := self._look()) != self._state:
                self._state = state
                self._ranges = parse(self._path, self._read())
                self._owners = frozenset(r.owner for r in self._ranges)
            return self._ranges

    def _look(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError as e:
            return (e.errno or 0,)
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def _read(self) -> str:
        """Nothing, with a warning, of a file that cannot be trusted."""
        try:
            with open(self._path, "rb", opener=_open) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
                    raise OSError(errno.EPERM, "is not a regular file of root")
                if others_may_write(file.fileno(), status):
                    raise OSError(errno.EPERM, "can be written by others than its owner")
                return file.read(MAX_SUBUID_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as e:
            log.warning("%s: %s; no subordinate uids are known", self._path, e.strerror)
            return ""


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)  # a pipe must not stop us


def parse(path: Path, text: str) -> list[Range]:
    """The ranges by their start, none overlapping: of two that do, the one that starts later loses the common part.

    Lines that are no good are skipped with a warning.
    """
    found, bad = [], []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            found.append(_range(line))
        except ValueError:
            bad.append(number)
    for number in bad[:MAX_COMPLAINTS]:
        log.warning("%s: line %d is not NAME:START:COUNT; it is skipped", path, number)
    if len(bad) > MAX_COMPLAINTS:
        log.warning("%s: %d more lines are skipped", path, len(bad) - MAX_COMPLAINTS)
    ranges, end = [], 1  # uid 0 is never anybody else's
    for each in sorted(found):
        start = max(each.start, end)
        if start < each.end:
            ranges.append(Range(start, each.end, each.owner))
            end = each.end
    return ranges


def _range(line: str) -> Range:
    """Raises ValueError."""
    owner, start, count = line.split(":")
    if not owner or not all(n.isascii() and n.isdecimal() and len(n) <= 10 for n in (start, count)):
        raise ValueError(line)
    first, end = int(start), int(start) + int(count)
    if not first < end <= _UID_END:
        raise ValueError(line)
    return Range(first, end, owner)
