"""One directory per VM, for its owner alone.

The directory is also the VM's sign of life: virtmgr holds a lock (flock) on it while the VM exists. A service that was
killed and comes back leaves locked directories, and their CIDs, alone.
"""

import fcntl
import logging
import os
import uuid
from pathlib import Path

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

log = logging.getLogger(__name__)


class TempDirs:
    """The directory that holds all VMs' directories; everything is done by its descriptor, links are never followed."""

    def __init__(self, root: Path) -> None:
        """Makes `root` (0711: others may pass through to what is theirs) if need be."""
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        root.chmod(0o711)
        self.root = root
        self._fd = os.open(root, _OPEN_DIRECTORY)

    def close(self) -> None:
        os.close(self._fd)

    def create(self, cid: int, uid: int) -> Path:
        """Makes the directory of `cid`, mode 0700, owned by `uid`. Removes what a former VM left. Raises OSError."""
        name = str(cid)
        try:
            self._make(name, uid)
        except FileExistsError:
            self.remove(cid)
            self._make(name, uid)
        return self.root / name

    def _make(self, name: str, uid: int) -> None:
        os.mkdir(name, 0o700, dir_fd=self._fd)
        try:
            os.chmod(name, 0o700, dir_fd=self._fd)
            if uid != os.getuid():
                os.chown(name, uid, -1, dir_fd=self._fd, follow_symlinks=False)
        except OSError:
            os.rmdir(name, dir_fd=self._fd)
            raise

    def remove(self, cid: int) -> None:
        """Removes the directory of `cid` and all in it; no error if there is none. Raises OSError."""
        name = str(cid)
        try:
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=self._fd)
        except FileNotFoundError:
            return
        try:
            _empty(fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=self._fd)

    def survivors(self) -> dict[int, int]:
        """CID -> owner's uid of every directory that is still locked; unlocked ones are removed. Raises OSError."""
        held = {}
        for name in os.listdir(self._fd):  # noqa: PTH208 - by descriptor
            if not (name.isascii() and name.isdecimal() and str(int(name)) == name):
                raise NotADirectoryError(20, "is not a VM's directory", str(self.root / name))
            cid = int(name)
            owner = os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_uid
            if self.is_locked(cid):
                held[cid] = owner
            else:
                self.remove(cid)
        return held

    def is_locked(self, cid: int) -> bool:
        """Whether a virtmgr holds the directory of `cid`."""
        try:
            fd = os.open(str(cid), _OPEN_DIRECTORY, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


def _empty(top: int) -> None:
    """Removes all in a directory that somebody else may have filled, however deep.

    What lies deeper is moved up, so that depth costs neither stack nor descriptors. Directories are taken over first:
    to change owners is a right that the service has, to write where others alone may is not.
    """
    _take_over(top)
    todo: list[str] = []
    _empty_one(top, top, todo)
    while todo:
        name = todo.pop()
        fd = os.open(name, _OPEN_DIRECTORY, dir_fd=top)
        try:
            _empty_one(fd, top, todo)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=top)


def _empty_one(fd: int, top: int, todo: list[str]) -> None:
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=fd)
            continue
        child = os.open(name, _OPEN_DIRECTORY, dir_fd=fd)
        try:
            _take_over(child)
        finally:
            os.close(child)
        moved = uuid.uuid4().hex
        os.rename(name, moved, src_dir_fd=fd, dst_dir_fd=top)
        todo.append(moved)


def _take_over(fd: int) -> None:
    if os.fstat(fd).st_uid != os.geteuid():
        os.fchown(fd, os.geteuid(), -1)
    os.fchmod(fd, 0o700)
