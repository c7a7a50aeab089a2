"""A ZIP archive as a tree of read-only inodes, for `fuse` to serve.

Stored entries are read in place; compressed ones are inflated as a whole when they are opened, and dropped when the
last user has closed them.
"""

import errno
import os
import stat
from collections.abc import Iterator

from avf.apk import ApkError, Entry, entries, entry_offset, open_entry

ROOT = 1
_DEFAULT_FILE_MODE = 0o400
_DIRECTORY_MODE = 0o500
_STORED = 0
_HEADER_SIZE = 512
"""Of a local header, with most names."""
_MAX_DEPTH = 64
_MAX_INODES = 1 << 18
"""Four times as many as an archive can have entries."""


class ZipTreeError(Exception):
    """The archive cannot be shown as a file system, or one of its entries cannot be read."""


class Inode:
    """A file or a directory. Numbers start at ROOT and follow the central directory."""

    __slots__ = ("block", "children", "entry", "mode", "number", "size", "slot")

    def __init__(self, number: int, mode: int, size: int = 0, entry: Entry | None = None) -> None:
        self.number = number
        self.mode = mode
        self.size = size
        self.entry = entry
        self.block = 0
        """Where the contents begin on a device that has been made of the tree."""
        self.slot: int | None = None
        """Where the inode with the contents lies there (see `erofs.Node`)."""
        self.children: dict[str, Inode] = {}

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_stored(self) -> bool:
        """Whether the contents lie in the archive as they are."""
        return self.entry is not None and self.entry.method == _STORED


class ZipTree:
    """The tree of one archive behind the borrowed descriptor `fd`. Raises ZipTreeError for names that lead astray.

    `executable` are directories whose files are executable even where the archive records no modes.
    """

    def __init__(self, fd: int, executable: tuple[str, ...] = ()) -> None:
        self._fd = fd
        self._max_inflated = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        self._executable = executable
        self._inodes = [Inode(0, 0), Inode(ROOT, stat.S_IFDIR | _DIRECTORY_MODE)]
        self._open: dict[int, tuple[int, bytes]] = {}
        self._offsets: dict[int, int] = {}
        try:
            for entry in entries(fd):
                self._add(entry)
        except ApkError as error:
            raise ZipTreeError(str(error)) from error

    def __len__(self) -> int:
        return len(self._inodes) - 1

    def inode(self, number: int) -> Inode | None:
        return self._inodes[number] if 0 < number < len(self._inodes) else None

    def files(self) -> Iterator[Inode]:
        """All files, in the order of the central directory."""
        return (inode for inode in self._inodes[ROOT:] if not inode.is_directory)

    def find(self, path: str) -> Inode | None:
        """The inode at a relative path."""
        inode: Inode | None = self._inodes[ROOT]
        for part in path.split("/"):
            inode = inode.children.get(part) if inode else None
        return inode

    def open(self, inode: Inode) -> None:
        """Makes a file ready to be read; every `open` wants its `close`. Raises ZipTreeError or OSError (too large)."""
        entry = inode.entry
        if entry is None or entry.method == _STORED:
            return
        users, data = self._open.get(inode.number, (0, b""))
        if not users:
            data = self._inflate(entry)
        self._open[inode.number] = (users + 1, data)

    def close(self, inode: Inode) -> None:
        users, data = self._open.get(inode.number, (0, b""))
        if users > 1:
            self._open[inode.number] = (users - 1, data)
        else:
            self._open.pop(inode.number, None)

    def read(self, inode: Inode, offset: int, length: int) -> bytes:
        """Up to `length` bytes of an open file; fewer only at its end. Raises ZipTreeError or OSError (dm-verity's)."""
        length = min(length, inode.size - offset)
        if length <= 0 or inode.entry is None:
            return b""
        if inode.entry.method != _STORED:
            return self._open[inode.number][1][offset : offset + length]
        return _pread(self._fd, self.data_offset(inode) + offset, length)

    def _inflate(self, entry: Entry) -> bytes:
        if entry.size > self._max_inflated:
            raise OSError(errno.EFBIG, f"ZIP entry {entry.name!r} does not fit into memory")
        try:
            with open_entry(self._fd, entry) as reader:
                return reader.readall()
        except ApkError as error:
            raise ZipTreeError(str(error)) from error

    def prefetch(self, inode: Inode) -> None:
        """Has the kernel fetch what tells where the data of an entry begin, without waiting for it."""
        if inode.entry is not None:
            os.posix_fadvise(
                self._fd, inode.entry.header_offset, _HEADER_SIZE, os.POSIX_FADV_WILLNEED
            )

    def data_offset(self, inode: Inode) -> int:
        """Where the data of a stored entry begin. Raises ZipTreeError or OSError (dm-verity's)."""
        offset = self._offsets.get(inode.number)
        if offset is None:
            entry = inode.entry
            assert entry is not None
            if entry.size != entry.compressed_size:
                raise ZipTreeError(f"ZIP entry {entry.name!r} is stored, but its two sizes differ")
            try:
                offset = entry_offset(self._fd, entry)
            except ApkError as error:
                raise ZipTreeError(str(error)) from error
            self._offsets[inode.number] = offset
        return offset

    def _add(self, entry: Entry) -> None:
        parts = entry.name.rstrip("/").split("/")
        if len(parts) > _MAX_DEPTH or any(part in ("", ".", "..") for part in parts):
            raise ZipTreeError(f"ZIP entry {entry.name!r} leads out of the archive")
        directory = self._inodes[ROOT]
        for part in parts[:-1]:
            directory = self._directory(directory, part, entry)
        if entry.is_dir:
            self._directory(directory, parts[-1], entry)
        elif parts[-1] in directory.children:
            raise ZipTreeError(f"ZIP entry {entry.name!r} occurs twice")
        else:
            mode = self._file_mode(entry)
            directory.children[parts[-1]] = self._new(mode, entry.size, entry)

    def _directory(self, parent: Inode, name: str, entry: Entry) -> Inode:
        inode = parent.children.get(name)
        if inode is None:
            inode = parent.children[name] = self._new(stat.S_IFDIR | _DIRECTORY_MODE)
        elif not inode.is_directory:
            raise ZipTreeError(f"ZIP entry {entry.name!r} lies below a file")
        return inode

    def _file_mode(self, entry: Entry) -> int:
        mode = entry.mode & 0o777 or _DEFAULT_FILE_MODE
        if entry.name.rpartition("/")[0] in self._executable:
            mode |= 0o100
        return stat.S_IFREG | mode

    def _new(self, mode: int, size: int = 0, entry: Entry | None = None) -> Inode:
        if len(self._inodes) > _MAX_INODES:
            raise ZipTreeError(f"a ZIP file of more than {_MAX_INODES} files and directories")
        inode = Inode(len(self._inodes), mode, size, entry)
        self._inodes.append(inode)
        return inode


def _pread(fd: int, offset: int, length: int) -> bytes:
    data = os.pread(fd, length, offset)
    while len(data) < length and (more := os.pread(fd, length - len(data), offset + len(data))):
        data += more
    return data
