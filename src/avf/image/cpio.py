"""Writes initramfs archives: cpio in the `newc` format, byte for byte the same for the same entries.

Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
"""

import stat
from dataclasses import dataclass, field
from pathlib import Path

from avf.image.errors import CpioError

_TRAILER = "TRAILER!!!"
_MAX_FIELD = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class _Node:
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Cpio:
    """The tree of an archive. Owner root, time 0, inode numbers by position: nothing of the building host gets in.

    Missing parent directories are made (0755). Adding a path again replaces it, unless that is a
    directory and the new one is not.
    """

    _nodes: dict[str, _Node] = field(default_factory=dict)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Adds a regular file."""
        self._add(path, _Node(stat.S_IFREG | mode, data))

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Adds a folder."""
        self._add(path, _Node(stat.S_IFDIR | mode))

    def link(self, path: str, target: str) -> None:
        """Adds a symbolic link."""
        self._add(path, _Node(stat.S_IFLNK | 0o777, target.encode()))

    def character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Adds a character device."""
        self._add(path, _Node(stat.S_IFCHR | mode, device=(major, minor)))

    def copy(self) -> "Cpio":
        """A tree of its own with the same contents."""
        return Cpio(dict(self._nodes))

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def below(self, directory: str) -> "Cpio":
        """The tree whose root is that directory of this one."""
        start = f"{directory}/"
        return Cpio(
            {p.removeprefix(start): n for p, n in self._nodes.items() if p.startswith(start)}
        )

    def write_to(self, directory: Path) -> None:
        """Makes the tree below `directory`. Raises CpioError for a device, and OSError."""
        for path, node in sorted(self._nodes.items()):
            target = directory / path
            if stat.S_ISLNK(node.mode):
                target.symlink_to(node.data.decode())
                continue
            if stat.S_ISDIR(node.mode):
                target.mkdir()
            elif stat.S_ISREG(node.mode):
                target.write_bytes(node.data)
            else:
                raise CpioError(f"{path!r} is a device")
            target.chmod(stat.S_IMODE(node.mode))

    def to_bytes(self) -> bytes:
        """The archive, padded to 512 bytes. Parents come before children."""
        chunks: list[bytes] = []
        for inode, (path, node) in enumerate(sorted(self._nodes.items()), 1):
            chunks += _record(path, node, inode)
        chunks += _record(_TRAILER, _Node(0), 0)
        size = sum(map(len, chunks))
        chunks.append(bytes(-size % 512))
        return b"".join(chunks)

    def _add(self, path: str, node: _Node) -> None:
        parts = path.split("/")
        if not path or any(part in ("", ".", "..") for part in parts) or "\0" in path:
            raise CpioError(f"bad path {path!r}")
        if path == _TRAILER or len(node.data) > _MAX_FIELD:
            raise CpioError(f"{path!r} cannot be stored")
        for depth in range(1, len(parts)):
            parent = self._nodes.setdefault("/".join(parts[:depth]), _Node(stat.S_IFDIR | 0o755))
            if not stat.S_ISDIR(parent.mode):
                raise CpioError(f"{path!r} lies below something that is no directory")
        old = self._nodes.get(path)
        if old is not None and stat.S_ISDIR(old.mode) and not stat.S_ISDIR(node.mode):
            raise CpioError(f"{path!r} is a directory already")
        self._nodes[path] = node


def _record(path: str, node: _Node, inode: int) -> list[bytes]:
    name = path.encode() + b"\0"
    links = 0 if path == _TRAILER else 2 if stat.S_ISDIR(node.mode) else 1
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    numbers = (inode, node.mode, 0, 0, links, 0, len(node.data), 0, 0, *node.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    padding = bytes(-(len(header) + len(name)) % 4)
    return [header, name, padding, node.data, bytes(-len(node.data) % 4)]
