"""What is said of a file, folder or link of a tree, and which names may be in one."""

import struct
from typing import NamedTuple

from avf.shell.errors import ProtocolError

MAX_DEPTH = 128
"""Folders within folders; each costs both sides a descriptor."""
NAME_MAX = 255
_ENTRY = struct.Struct("<Hq")
_LENGTH = struct.Struct("<H")
_PERMISSIONS = 0o777


class Entry(NamedTuple):
    """A file or folder."""

    name: bytes
    """Empty for the top of a tree, whose name is the receiver's business."""
    mode: int
    """Read, write and execute for owner, group and others; nothing else is carried."""
    changed: int
    """Nanoseconds since 1970."""

    def encode(self) -> bytes:
        """The payload of a FOLDER or FILE."""
        return _ENTRY.pack(self.mode & _PERMISSIONS, self.changed) + self.name

    @classmethod
    def decode(cls, payload: bytes) -> "Entry":
        """Raises ProtocolError. The name is not checked."""
        try:
            mode, changed = _ENTRY.unpack_from(payload)
        except struct.error:
            raise ProtocolError("an entry of a folder is cut short") from None
        return cls(payload[_ENTRY.size :], mode & _PERMISSIONS, changed)


class Link(NamedTuple):
    """A symbolic link."""

    name: bytes
    target: bytes

    def encode(self) -> bytes:
        """The payload of a LINK."""
        return _LENGTH.pack(len(self.name)) + self.name + self.target

    @classmethod
    def decode(cls, payload: bytes) -> "Link":
        """Raises ProtocolError. The name is not checked."""
        try:
            (length,) = _LENGTH.unpack_from(payload)
        except struct.error:
            raise ProtocolError("a link is cut short") from None
        rest = payload[_LENGTH.size :]
        if length > len(rest) or b"\0" in rest:
            raise ProtocolError("a link is cut short")
        return cls(rest[:length], rest[length:])


def check_name(name: bytes) -> bytes:
    """The name, if it can only be that of something inside its folder. Raises ProtocolError."""
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name or len(name) > NAME_MAX:
        raise ProtocolError(f"{name[:NAME_MAX]!r} is no name of a file inside a folder")
    return name


def stays_inside(target: bytes, depth: int) -> bool:
    """Whether a link with this target, `depth` folders below the top of a tree, cannot lead out of the tree.

    `..` is allowed at the beginning only: behind another link it would count from wherever that leads.
    """
    if not target or target.startswith(b"/"):
        return False
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    up = 0
    while up < len(parts) and parts[up] == b"..":
        up += 1
    return up <= depth and b".." not in parts[up:]


def shown(path: bytes) -> str:
    """A path as text for people; a name in another encoding keeps its bytes as escapes."""
    return path.decode("utf-8", "backslashreplace")
