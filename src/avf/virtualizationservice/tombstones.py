"""Tombstones on disk: a ring of numbered files, each with a note about where it is from.

tombstone_07         what the guest sent; mode 0600, of the user whose VM it was
tombstone_07.json    {"time", "cid", "uid", "pid", "size", "ended"}
"""

import contextlib
import json
import logging
import os
import pwd
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

_INCOMING = "incoming_"

log = logging.getLogger(__name__)


class Ended(StrEnum):
    """Why there is no more of a tombstone."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    """It was longer than tombstones may be."""
    TIMEOUT = "timeout"
    """The sender took too long over the rest."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose a tombstone is. The CID and the pid (of who asked for the VM) are None where not known for sure."""

    uid: int
    cid: int | None = None
    pid: int | None = None


class Draft:
    """A tombstone that is still coming in."""

    def __init__(self, ring: "TombstoneRing", path: Path, fd: int) -> None:
        self._ring = ring
        self._path = path
        self._fd = fd
        self.size = 0

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        while data:
            written = os.write(self._fd, data)
            self.size += written
            data = data[written:]

    def file(self, sender: Sender, ended: Ended) -> Path:
        """Gives it the place of the oldest tombstone. Raises OSError."""
        if sender.uid != os.geteuid():
            os.fchown(self._fd, sender.uid, -1)
        note = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **asdict(sender),
            "size": self.size,
            "ended": ended.value,
        }
        return self._ring.put(self._path, json.dumps(note) + "\n")


class TombstoneRing:
    """`count` places in a directory, for `total` bytes of tombstones; 0: for any number."""

    def __init__(self, directory: Path, count: int, total: int = 0) -> None:
        """Makes the directory if need be, and removes what was still coming in when a former service ended."""
        if not 1 <= count <= 100:
            raise ValueError(f"there can be 1 to 100 tombstones, not {count}")
        self.directory = directory
        self._count = count
        self._total = total
        self._lock = threading.Lock()
        self._serial = 0
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in directory.glob(f"{_INCOMING}*"):
            left.unlink()
        self._next = self._first_place()

    @contextlib.contextmanager
    def draft(self) -> Iterator[Draft]:
        """A new tombstone; nothing remains of it unless it is filed. Raises OSError."""
        with self._lock:
            self._serial += 1
            path = self.directory / f"{_INCOMING}{self._serial}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield Draft(self, path, fd)
        finally:
            os.close(fd)
            path.unlink(missing_ok=True)

    def put(self, incoming: Path, note: str) -> Path:
        """Moves a file to the next place. A tombstone never stands beside another one's note. Raises OSError."""
        with self._lock:
            place = self._place(self._next)
            self._next = (self._next + 1) % self._count
            note_file = place.with_name(f"{place.name}.json")
            place.unlink(missing_ok=True)
            note_file.unlink(missing_ok=True)
            status = incoming.stat()
            self._write_note(note_file, note, status.st_uid)
            incoming.rename(place)
            self._make_room(place)
        return place

    def _make_room(self, newest: Path) -> None:
        """Removes the oldest while all together are too large; the newest stays."""
        found = [(status.st_mtime, path, status.st_size) for path, status in self._stored()]
        excess = sum(size for _, _, size in found) - self._total if self._total else 0
        for _, path, size in sorted(found):
            if excess > 0 and path != newest:
                path.unlink(missing_ok=True)
                path.with_name(f"{path.name}.json").unlink(missing_ok=True)
                excess -= size

    def _stored(self) -> Iterator[tuple[Path, os.stat_result]]:
        for number in range(self._count):
            path = self._place(number)
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()

    def _write_note(self, path: Path, note: str, uid: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w") as file:
            file.write(note)
            if uid != os.geteuid():
                os.fchown(fd, uid, -1)

    def _first_place(self) -> int:
        """The first free place, else that of the oldest tombstone."""
        ages: dict[int, float] = {}
        for number in range(self._count):
            try:
                ages[number] = self._place(number).stat().st_mtime
            except FileNotFoundError:
                return number
        return min(ages, key=lambda number: ages[number])

    def _place(self, number: int) -> Path:
        return self.directory / f"tombstone_{number:02}"


class TombstoneStore:
    """One ring, or (`per_user`) one for each user in a directory named by uid, so that nobody's push out another's."""

    def __init__(self, directory: Path, *, per_user: bool, count: int = 32, total: int = 0) -> None:
        """Raises OSError."""
        self._directory = directory
        self._per_user = per_user
        self._count = count
        self._total = total
        self._lock = threading.Lock()
        self._rings: dict[int, TombstoneRing] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if per_user:
            directory.chmod(0o711)
        else:
            self.ring(os.geteuid())

    def ring(self, uid: int) -> TombstoneRing:
        """Where tombstones of VMs of `uid` go. Raises OSError."""
        key = uid if self._per_user else -1
        with self._lock:
            if key not in self._rings:
                self._rings[key] = self._open(uid)
            return self._rings[key]

    def _open(self, uid: int) -> TombstoneRing:
        if not self._per_user:
            return TombstoneRing(self._directory, self._count, self._total)
        ring = TombstoneRing(self._directory / str(uid), self._count, self._total)
        _open_to(ring.directory, uid)
        return ring


def _open_to(directory: Path, uid: int) -> None:
    """Lets a user look into a directory of ours, by its primary group; without an account, it has to know the names."""
    if uid == os.geteuid():
        return
    try:
        group = pwd.getpwuid(uid).pw_gid
    except KeyError:
        directory.chmod(0o711)
        return
    os.chown(directory, -1, group)
    directory.chmod(0o750)
