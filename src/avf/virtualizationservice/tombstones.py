"""Tombstones on disk: a ring of numbered files, each with a note about where it is from.

tombstone_07         what the guest sent; readable for the user whose VM it was
tombstone_07.json    {"time", "cid", "uid", "pid", "size", "ended"}
"""

import contextlib
import errno
import json
import logging
import os
import pwd
import stat
import struct
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from avf.virtualizationservice.files import keep_directory
from avf.virtualizationservice.parties import UNKNOWN, Party, party_named
from avf.virtualizationservice.quotas import Budget

_INCOMING = "incoming_"
_NO_ID = 0xFFFFFFFF

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
        note = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **asdict(sender),
            "size": self.size,
            "ended": ended.value,
        }
        reader = sender.uid if self._ring.reader is None else self._ring.reader
        let_read(self._fd, reader)
        return self._ring.put(self._path, json.dumps(note) + "\n", reader)


class TombstoneRing:
    """`count` places in a directory, for `total` bytes of tombstones; 0: for any number.

    Anything but a tombstone that stands in a place is left alone, and the place is passed over.
    """

    def __init__(
        self,
        directory: Path,
        count: int,
        total: int = 0,
        *,
        reader: int | None = None,
        charge: "Charge | None" = None,
    ) -> None:
        """Makes the directory if need be, and removes what was still coming in when a former service ended.

        `reader` is the uid that may read what is filed; None: each sender. Raises OSError.
        """
        if not 1 <= count <= 100:
            raise ValueError(f"there can be 1 to 100 tombstones, not {count}")
        self.directory = directory
        self.reader = reader
        self._count = count
        self._total = total
        self._charge = charge or Charge(None, UNKNOWN)
        self._lock = threading.Lock()
        self._serial = 0
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in directory.glob(f"{_INCOMING}*"):
            _discard(left)
        self._charge.set(sum(size for _, _, size in self._stored()))
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

    def put(self, incoming: Path, note: str, uid: int) -> Path:
        """Moves a file to the next place. A tombstone never stands beside another one's note. Raises OSError."""
        with self._lock:
            place, note_file = self._clear_a_place()
            size = incoming.stat().st_size
            self._make_room(size)
            self._write_note(note_file, note, uid)
            incoming.rename(place)
        return place

    def _clear_a_place(self) -> tuple[Path, Path]:
        for _ in range(self._count):
            place = self._place(self._next)
            note_file = place.with_name(f"{place.name}.json")
            self._next = (self._next + 1) % self._count
            if _discard(place) and _discard(note_file):
                return place, note_file
        raise OSError(errno.ENOSPC, "no place for a tombstone", str(self.directory))

    def _make_room(self, size: int) -> None:
        """Removes the oldest until a new one of `size` fits. Raises OSError if it cannot."""
        oldest_first = sorted(self._stored())
        have = sum(stored for _, _, stored in oldest_first)
        for _, path, stored in oldest_first:
            fits = not self._total or have + size <= self._total
            if fits and self._charge.set(have, size):
                return
            _discard(path)
            _discard(path.with_name(f"{path.name}.json"))
            have -= stored
        if not self._charge.set(have, size):
            raise OSError(errno.EDQUOT, "no room for a tombstone", str(self.directory))

    def _stored(self) -> Iterator[tuple[float, Path, int]]:
        """Time, path and size of each tombstone."""
        for number in range(self._count):
            path = self._place(number)
            with contextlib.suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield status.st_mtime, path, status.st_size

    def _write_note(self, path: Path, note: str, uid: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w") as file:
            file.write(note)
            let_read(fd, uid)

    def _first_place(self) -> int:
        """The first free place, else that of the oldest tombstone."""
        ages: dict[int, float] = {}
        for number in range(self._count):
            try:
                ages[number] = self._place(number).lstat().st_mtime
            except OSError:
                return number
        return min(ages, key=lambda number: ages[number])

    def _place(self, number: int) -> Path:
        return self.directory / f"tombstone_{number:02}"


class Charge:
    """What a ring takes of what all rings together may have."""

    def __init__(self, budget: Budget | None, party: Party) -> None:
        self._budget = budget
        self._party = party
        self._charged = 0

    def set(self, have: int, more: int = 0) -> bool:
        """The ring has `have` bytes; whether it may have `more`, which is counted then."""
        if self._budget is None:
            return True
        self._budget.give_back(self._party, self._charged)
        self._budget.hold(self._party, have)
        self._charged = have
        if more and not self._budget.take(self._party, more):
            return False
        self._charged += more
        return True


class TombstoneStore:
    """One ring, or (`per_party`) one for each party in a directory of its name, so that nobody's push out another's.

    All rings together may have `whole` bytes, each party a share of them.
    """

    def __init__(
        self, directory: Path, *, per_party: bool, count: int = 32, total: int = 0, whole: int = 0
    ) -> None:
        """Raises OSError."""
        self._directory = directory
        self._per_party = per_party
        self._count = count
        self._total = total
        self._budget = Budget(whole, bounds_root=True) if whole else None
        self._lock = threading.Lock()
        self._rings: dict[str, TombstoneRing] = {}
        keep_directory(directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if per_party:
            directory.chmod(0o711)
            self._open_those_there()
        else:
            self.ring(UNKNOWN)

    def ring(self, party: Party) -> TombstoneRing:
        """Where tombstones of VMs of `party` go. Raises OSError."""
        name = party.name if self._per_party else ""
        with self._lock:
            if name not in self._rings:
                self._rings[name] = self._open(name, party)
            return self._rings[name]

    def _open(self, name: str, party: Party) -> TombstoneRing:
        directory = self._directory / name
        charge = Charge(self._budget, party)
        reader = party.uid if self._per_party else None
        ring = TombstoneRing(directory, self._count, self._total, reader=reader, charge=charge)
        if self._per_party:
            _open_to(directory, party)
        return ring

    def _open_those_there(self) -> None:
        """What former services have kept counts."""
        for directory in self._directory.iterdir():
            party = party_named(directory.name)
            try:
                if party is None or not stat.S_ISDIR(directory.lstat().st_mode):
                    raise OSError("is not a directory of tombstones")
                self.ring(party)
            except OSError as e:
                log.warning("%s is left alone: %s", directory, e)


def let_read(fd: int, uid: int) -> None:
    """Lets a user read a file that stays ours, so that its size is up to us. Raises OSError.

    By an access control list (acl(5)); where the file system has none, the file is given away.
    """
    if uid == os.geteuid():
        return
    entries = [(1, 6, _NO_ID), (2, 4, uid), (4, 0, _NO_ID), (16, 4, _NO_ID), (32, 0, _NO_ID)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(fd, "system.posix_acl_access", acl)
    except OSError as e:
        if e.errno not in (errno.ENOTSUP, errno.EINVAL):
            raise
        os.fchown(fd, uid, -1)


def _discard(path: Path) -> bool:
    """Removes a file of any kind but a directory; whether nothing is there any more."""
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        log.warning("%s is left alone: %s", path, e)
        return False
    return True


def _open_to(directory: Path, party: Party) -> None:
    """Lets a user look into a directory of ours, by its primary group; without an account, it has to know the names."""
    if party.uid == os.geteuid():
        return
    try:
        group = pwd.getpwuid(-1 if party.uid is None else party.uid).pw_gid
    except (KeyError, OverflowError):
        directory.chmod(0o711)
        return
    os.chown(directory, -1, group)
    directory.chmod(0o750)
