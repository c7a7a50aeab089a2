"""One directory per VM, for its owner alone.

The directory is also the VM's sign of life: virtmgr holds a lock (flock) on it while the VM exists. A service that was
killed and comes back leaves locked directories, and their CIDs, alone.

What is in a directory is its owner's, who may be up to no good: links are not followed, what is mounted there is not
entered, and removing is done in slices, since there may be any amount of it.
"""

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from avf.mounts import mounts, open_directory
from avf.virtualizationservice.files import keep_directory

SLICE = 1000
"""How many files are removed at a time."""
SPARES = 64
_SPARE = "spare_"
_MAX_NAMED = 5
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Found:
    """What a former service has left, by CID; the uid is the directory's owner, None where it is not known."""

    held: dict[int, int] = field(default_factory=dict)
    """Their VM lives."""
    left: dict[int, int] = field(default_factory=dict)
    """To be removed."""
    closed: dict[int, tuple[OSError, int | None]] = field(default_factory=dict)
    """They cannot be looked into."""


class TempDirs:
    """The directory that holds all VMs' directories; everything is done by its descriptor."""

    def __init__(self, root: Path) -> None:
        """Makes `root` (0711: others may pass through to what is theirs) if need be. Raises OSError."""
        keep_directory(root)
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        root.chmod(0o711)
        self.root = root
        self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._fd)

    def create(self, cid: int, uid: int, *, spare: bool = False) -> Path:
        """Makes the directory of `cid`, mode 0700, owned by `uid`. Raises OSError, if there is one already, too.

        With `spare`, a directory that `stock` has laid by becomes it, which takes no room on the file system.
        """
        name = str(cid)
        try:
            self._rename_a_spare(name) if spare else os.mkdir(name, 0o700, dir_fd=self._fd)
        except OSError as e:
            e.filename, e.filename2 = str(self.root / name), None
            raise
        try:
            os.chmod(name, 0o700, dir_fd=self._fd)
            if uid != os.geteuid():
                os.chown(name, uid, -1, dir_fd=self._fd, follow_symlinks=False)
        except OSError as e:
            os.rmdir(name, dir_fd=self._fd)
            e.filename = str(self.root / name)
            raise
        return self.root / name

    def stock(self) -> None:
        """Lays by directories for when the file system is full; as many as there is room for."""
        there = set(self._names())
        for number in range(SPARES):
            if (name := f"{_SPARE}{number:02}") not in there:
                try:
                    os.mkdir(name, 0o700, dir_fd=self._fd)
                except OSError as e:
                    log.debug("no spare directory: %s", e)
                    return

    def remove(self, cid: int, limit: int = SLICE) -> bool:
        """Removes the directory of `cid`, or up to `limit` of what is in it; True once it is gone.

        Raises OSError if something cannot be removed and nothing else could be.
        """
        name = str(cid)
        try:
            fd = open_directory(name, self._fd)
        except FileNotFoundError:
            return True
        try:
            gone = _empty(fd, limit)
        finally:
            os.close(fd)
        if gone:
            os.rmdir(name, dir_fd=self._fd)
        return gone

    def look(self) -> Found:
        """What is there; nothing is removed. What is no VM's directory is left alone, and said."""
        found, strange = Found(), []
        for name in self._names():
            if name.startswith(_SPARE):
                continue
            if not (name.isascii() and name.isdecimal() and str(int(name)) == name):
                strange.append(name)
                continue
            self._look_at(int(name), found)
        if strange:
            log.warning(
                "%s: %d entries are not VMs' directories and are left alone: %s",
                self.root,
                len(strange),
                ", ".join(map(repr, sorted(strange)[:_MAX_NAMED])),
            )
        return found

    def is_locked(self, cid: int) -> bool:
        """Whether a virtmgr holds the directory of `cid`. Raises OSError if it cannot be looked into."""
        try:
            with self._opened(cid) as fd:
                return _is_locked(fd)
        except FileNotFoundError:
            return False

    def _look_at(self, cid: int, found: Found) -> None:
        try:
            with self._opened(cid) as fd:
                owner = os.fstat(fd).st_uid
                (found.held if _is_locked(fd) else found.left)[cid] = owner
        except FileNotFoundError:
            pass
        except OSError as e:
            found.closed[cid] = (e, self._mounted_by(cid))

    def _mounted_by(self, cid: int) -> int | None:
        try:
            return mounts().get(str(self.root.resolve() / str(cid)))
        except OSError:
            return None

    @contextlib.contextmanager
    def _opened(self, cid: int) -> Iterator[int]:
        fd = open_directory(str(cid), self._fd)
        try:
            yield fd
        finally:
            os.close(fd)

    def _names(self) -> list[str]:
        return os.listdir(self._fd)  # noqa: PTH208 - by descriptor

    def _rename_a_spare(self, name: str) -> None:
        for number in range(SPARES):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{_SPARE}{number:02}", name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
                return
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_full(error: OSError) -> bool:
    """Whether it says that a file system has no room."""
    return error.errno in _NO_SPACE


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


# Removing. What lies deeper is moved up to the top, so that depth costs neither stack nor descriptors, and a slice
# needs to know nothing of those before it. Directories are taken over first: to change owners is a right that the
# service has, to write where others alone may is not.


@dataclass(slots=True)
class _Slice:
    left: int
    """What may yet be removed or moved."""
    done: int = 0
    stuck: OSError | None = None


def _empty(top: int, limit: int) -> bool:
    """Whether all is gone. Raises OSError if no more can be removed."""
    _take_over(top)
    work = _Slice(limit)
    while work.left > 0:
        before, work.stuck = work.done, None
        if _pass(top, top, work) and work.done == before and work.stuck is None:
            return True
        if work.done == before and work.stuck is not None:
            raise work.stuck
    return False


def _pass(fd: int, top: int, work: _Slice) -> bool:
    """Removes what is in `fd` once through; whether it got to the end."""
    with os.scandir(fd) as entries:
        for entry in entries:
            if work.left <= 0:
                return False
            try:
                _remove(entry.name, fd, top, work)
            except OSError as e:
                if e.errno != errno.ENOTEMPTY or work.stuck is None:  # what is in it says more
                    work.stuck = e
                work.left -= 1
    return True


def _remove(name: str, fd: int, top: int, work: _Slice) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except IsADirectoryError:
        if fd == top:
            _remove_directory(name, top, work)
        else:
            _move_up(name, fd, top)
    except FileNotFoundError:
        return
    work.left -= 1
    work.done += 1


def _remove_directory(name: str, top: int, work: _Slice) -> None:
    fd = open_directory(name, top)
    try:
        _take_over(fd)
        through = _pass(fd, top, work)
    finally:
        os.close(fd)
    if through:
        os.rmdir(name, dir_fd=top)


def _move_up(name: str, fd: int, top: int) -> None:
    child = open_directory(name, fd)
    try:
        _take_over(child)
    finally:
        os.close(child)
    os.rename(name, os.urandom(16).hex(), src_dir_fd=fd, dst_dir_fd=top)


def _take_over(fd: int) -> None:
    if os.fstat(fd).st_uid != os.geteuid():
        os.fchown(fd, os.geteuid(), -1)
    os.fchmod(fd, 0o700)
