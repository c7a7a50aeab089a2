"""What is remembered of instances beside their images, so that an old image that was put back is noticed.

instances/PARTY/UID-ID    the highest generation of the instance ID (64 hexadecimal digits) of UID, in decimal

An instance has a file from its second generation on, so only if its payload was updated. When a party has as many as it
may have, the one that was used longest ago makes way: what that costs is the party's own.
"""

import contextlib
import logging
import os
import threading
from pathlib import Path

from avf.trust import others_may_write
from avf.virtualizationservice.errors import QuotaError, ServiceError
from avf.virtualizationservice.files import clear, keep_directory, read_small
from avf.virtualizationservice.parties import Party, party_named
from avf.virtualizationservice.quotas import Budget, RateLimit

ID_SIZE = 32
PER_PARTY = 1024
TOTAL = 65536
BURST = 100
PER_SECOND = 5
MAX_GENERATION = (1 << 63) - 1
_NEW = ".new"

log = logging.getLogger(__name__)


class GenerationStore:
    """The generations of all parties' instances, on disk: what a method has done outlives whatever comes next."""

    def __init__(self, directory: Path, *, per_party: int = PER_PARTY, total: int = TOTAL) -> None:
        """Makes `directory` (0700) if need be. Raises OSError, also if others may write to it."""
        keep_directory(directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_uid != os.geteuid() or others_may_write(directory, status):
            raise OSError(f"{directory} must be uid {os.geteuid()}'s alone")
        self.directory = directory
        self._per_party = per_party
        self._budget = Budget(total, per_party, bounds_root=True)
        self._rate = RateLimit(BURST, PER_SECOND)
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}
        for folder in directory.iterdir():
            if (party := party_named(folder.name)) and folder.is_dir():
                self._budget.hold(party, len(_oldest_first(folder)))

    def get(self, party: Party, uid: int, instance_id: bytes) -> int:
        """The highest generation raised, 0 if there was none. Raises ServiceError or OSError."""
        path = self._path(party, uid, instance_id)
        with self._party_lock(party):
            generation = _read(path)
            if generation:
                os.utime(path)
            return generation

    def raise_to(self, party: Party, uid: int, instance_id: bytes, generation: int) -> None:
        """Remembers `generation`, unless a higher one is remembered. Raises ServiceError or OSError."""
        if not 1 <= generation <= MAX_GENERATION:
            raise ServiceError(f"generation {generation} is out of range")
        path = self._path(party, uid, instance_id)
        if not self._rate.take(party):
            raise QuotaError(f"{party} raises the generations of too many instances")
        with self._party_lock(party):
            known = _read(path)
            if known >= generation:
                return
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if known:
                _write(path, generation)
                return
            self._take_place(party, path.parent)
            try:
                _write(path, generation)
            except OSError:
                self._budget.give_back(party)
                raise

    def forget(self, party: Party, uid: int, instance_id: bytes) -> None:
        """Nothing is remembered of the instance any more. Raises ServiceError or OSError."""
        path = self._path(party, uid, instance_id)
        with self._party_lock(party), contextlib.suppress(FileNotFoundError):
            path.unlink()
            self._budget.give_back(party)

    def _take_place(self, party: Party, folder: Path) -> None:
        """One place more for `party`, be it that of its own instance that was used longest ago."""
        if self._budget.take(party):
            return
        for path in _oldest_first(folder):
            path.unlink()
            log.warning(
                "an old image of instance %s would not be noticed any more: %s has too many",
                *(path.name, party),
                extra={"party": party},
            )
            return
        raise QuotaError("the generations of too many instances are remembered")

    def _path(self, party: Party, uid: int, instance_id: bytes) -> Path:
        if len(instance_id) != ID_SIZE:
            raise ServiceError(f"an instance ID has {ID_SIZE} bytes, not {len(instance_id)}")
        return self.directory / party.name / f"{uid}-{instance_id.hex()}"

    def _party_lock(self, party: Party) -> threading.Lock:
        """Nobody waits for the disk on behalf of another party."""
        with self._lock:
            return self._busy.setdefault(party.name, threading.Lock())


def _read(path: Path) -> int:
    try:
        text = read_small(path)
    except FileNotFoundError:
        return 0
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and 1 <= int(digits) <= MAX_GENERATION):
        raise ServiceError(f"{path} is damaged: it holds no generation")
    return int(digits)


def _write(path: Path, generation: int) -> None:
    """All or nothing; on the disk when this returns."""
    new = path.with_name(f"{path.name}{_NEW}")
    clear(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, f"{generation}\n".encode())
        os.fsync(fd)
    except OSError:
        new.unlink()
        raise
    finally:
        os.close(fd)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _oldest_first(folder: Path) -> list[Path]:
    """The instances in a party's folder. What a former service has not finished writing is removed."""
    found: list[tuple[int, Path]] = []
    for entry in os.scandir(folder):
        if entry.name.endswith(_NEW):
            clear(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            found.append((entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)))
    return [path for _, path in sorted(found)]
