"""One directory per VM, for its owner alone.

The directory is also the VM's sign of life: virtmgr holds a lock (flock) on it while the VM exists. A service that was
killed and comes back leaves locked directories, and their CIDs, alone.
"""

import fcntl
import logging
import os
import shutil
import stat
from pathlib import Path

log = logging.getLogger(__name__)


class TempDirs:
    """The directory that holds all VMs' directories; everything is done by its descriptor, links are never followed."""

    def __init__(self, root: Path) -> None:
        """Makes `root` (0711: others may pass through to what is theirs) if need be."""
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.root = root
        self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

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
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(20, "is not a directory", str(self.root / name))
        shutil.rmtree(name, dir_fd=self._fd)

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
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(str(cid), flags, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False
