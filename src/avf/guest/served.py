"""What of an APK's image is made while it is read, as one file that `fuse` serves."""

import os
import stat

from avf.guest.near import NearFiles
from avf.guest.unpacked import BLOCK, Unpacked
from avf.guest.ziptree import ROOT, Inode

_WINDOW = 128 << 10
_LONE_READ = 32 << 10
"""Who reads so little is the first in a neighbourhood of small files; the others will be wanted soon."""
_MAX_WAITING = 64


class Served:
    """A run of bytes, whole blocks: near files, then unpacked ones."""

    def __init__(self, near: NearFiles, unpacked: Unpacked) -> None:
        self.near = near
        self.unpacked = unpacked

    @property
    def blocks(self) -> int:
        return self.near.blocks + self.unpacked.blocks

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes, whole blocks, fewer only at the end. Raises ZipTreeError or OSError."""
        size = self.near.size
        near = self.near.read(offset, min(length, size - offset)) if offset < size else b""
        if len(near) == length:
            return near
        return near + self.unpacked.read(offset + len(near) - size, length - len(near))


class ReadAhead:
    """Has the kernel read parts of a file, or device, before they are asked for: the `size` bytes from `start` on.

    The file may be served by this very process, so a thread asks, which may have to wait for the main thread's
    answers. The file is opened when it is needed first.
    """

    def __init__(self, path: str, start: int, size: int) -> None:
        self._path = path
        self._start = start
        self._size = size
        self._waiting: list[int] = []
        self._wake = -1

    def expect(self, offset: int) -> None:
        """The neighbourhood of a byte. Returns at once; what cannot be read ahead is read when it is asked for."""
        window = offset // _WINDOW * _WINDOW
        if window in self._waiting or len(self._waiting) >= _MAX_WAITING:
            return
        self._waiting.append(window)
        if self._wake < 0:
            import threading

            ready, self._wake = os.pipe()
            threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        os.write(self._wake, b"\0")

    def _run(self, ready: int) -> None:
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        while os.read(ready, 1):
            window = self._waiting[0]
            length = min(_WINDOW, self._size - window)
            os.posix_fadvise(fd, self._start + window, length, os.POSIX_FADV_WILLNEED)
            del self._waiting[0]


class ServedFile:
    """A directory with nothing in it but the file NAME, which is that run of bytes."""

    NAME = "served"

    def __init__(self, served: Served, near_ahead: ReadAhead, small_ahead: ReadAhead) -> None:
        self._served = served
        self._near_ahead = near_ahead
        self._small_ahead = small_ahead
        self._file = Inode(ROOT + 1, stat.S_IFREG | 0o400, served.blocks * BLOCK)
        self._directory = Inode(ROOT, stat.S_IFDIR | 0o500)
        self._directory.children[self.NAME] = self._file

    def __len__(self) -> int:
        return 2

    def inode(self, number: int) -> Inode | None:
        return {ROOT: self._directory, ROOT + 1: self._file}.get(number)

    def open(self, inode: Inode) -> None:
        """Nothing is to be made ready."""

    def close(self, inode: Inode) -> None:
        """Nothing is held."""

    def read(self, inode: Inode, offset: int, length: int) -> bytes:
        near = self._served.near.size
        if length <= _LONE_READ:
            if offset < near:
                self._near_ahead.expect(offset)
            elif offset - near < self._served.unpacked.small_blocks * BLOCK:
                self._small_ahead.expect(offset - near)
        return self._served.read(offset, length)
