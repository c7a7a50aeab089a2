"""Receives what `send_tree` sends, from a peer that may be hostile, into a place of this side's choice.

Every name is one of something inside its folder, every file and folder is made anew by the descriptor of the one above,
and all of it is built up under another name.
"""

import errno
import os
from collections.abc import Callable
from enum import Enum

from avf.shell.entries import MAX_DEPTH, Entry, Link, check_name, shown, stays_inside
from avf.shell.errors import ProtocolError, TransferError
from avf.shell.frames import Frame, Kind
from avf.shell.place import STAGED, Place
from avf.shell.requests import Failure

MAX_REMARKS = 100
"""How many of the things that were left out are told one by one."""
_MAX_REMARK = 4096
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LinkRule(Enum):
    """Which symbolic links are made."""

    ALL = "all"
    INSIDE = "inside"
    """Those that cannot lead out of the tree; others are left out."""


class _Open:
    """A file or folder that has begun."""

    __slots__ = ("entry", "fd", "is_folder")

    def __init__(self, fd: int, entry: Entry, is_folder: bool) -> None:
        self.fd = fd
        self.entry = entry
        self.is_folder = is_folder


def receive_tree(receive: Callable[[], Frame | None], place: Place, links: LinkRule) -> list[str]:
    """Puts one tree into its place; what was left out, a line each, the last of them a count if there were many.

    Nothing is left behind if that fails. Raises TransferError, also for a FAILED of the sender, ProtocolError and
    whatever `receive` raises.
    """
    with place.staging() as staging:
        tree = _Tree(staging, place.path, links)
        try:
            while not tree.is_whole:
                frame = receive()
                if frame is None:
                    raise TransferError(f"{shown(place.path)}: the sender has gone before the end")
                tree.accept(frame)
        except OSError as error:
            raise TransferError(f"{shown(place.path)}: {_text(error)}") from error
        finally:
            tree.close()
        place.fill(staging)
        return tree.remarks()


class _Tree:
    """The state between two frames: the files and folders that have begun, the top first."""

    def __init__(self, staging: int, path: bytes, links: LinkRule) -> None:
        self._staging = staging
        self._path = path
        self._links = links
        self._open: list[_Open] = []
        self._left_out: list[str] = []
        self._left_out_count = 0
        self.is_whole = False

    def accept(self, frame: Frame) -> None:
        """Raises ProtocolError, TransferError or OSError."""
        match frame.kind:
            case Kind.DATA:
                self._write(frame.payload)
            case Kind.FILE | Kind.FOLDER:
                self._begin(Entry.decode(frame.payload), frame.kind is Kind.FOLDER)
            case Kind.LINK:
                self._link(Link.decode(frame.payload))
            case Kind.END:
                self._end()
            case Kind.LEFT_OUT:
                self._leave_out(frame.payload.decode("utf-8", "replace"))
            case Kind.FAILED:
                raise TransferError(Failure.decode(frame.payload).text)
            case other:
                raise ProtocolError(f"the peer sent {other.name} in the middle of a folder")

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop().fd)

    def remarks(self) -> list[str]:
        more = self._left_out_count - len(self._left_out)
        return [*self._left_out, *([f"{more} more were left out"] if more else [])]

    def _begin(self, entry: Entry, is_folder: bool) -> None:
        if self._open:
            above, name = self._folder(), check_name(entry.name)
        else:
            above, name = self._staging, STAGED
        if len(self._open) > MAX_DEPTH:
            raise ProtocolError(f"the peer nests folders more than {MAX_DEPTH} deep")
        if is_folder:
            os.mkdir(name, 0o700, dir_fd=above)
            fd = os.open(name, _FOLDER, dir_fd=above)
        else:
            fd = os.open(name, _FILE, 0o600, dir_fd=above)
        self._open.append(_Open(fd, entry, is_folder))

    def _write(self, data: bytes) -> None:
        if not self._open or self._open[-1].is_folder:
            raise ProtocolError("the peer sent data outside of a file")
        view = memoryview(data)
        while view:
            view = view[os.write(self._open[-1].fd, view) :]

    def _end(self) -> None:
        if not self._open:
            raise ProtocolError("the peer ended what had not begun")
        ended = self._open.pop()
        try:
            os.fchmod(ended.fd, ended.entry.mode)
            os.utime(ended.fd, ns=(ended.entry.changed, ended.entry.changed))
        except OverflowError:
            raise ProtocolError(f"{ended.entry.changed} ns is no time of a file") from None
        finally:
            os.close(ended.fd)
        self.is_whole = not self._open

    def _link(self, link: Link) -> None:
        above, name = self._folder(), check_name(link.name)
        if self._links is LinkRule.INSIDE and not stays_inside(link.target, len(self._open) - 1):
            self._leave_out(
                f"{shown(self._shown_path(name))}: is a link that leads out, to {shown(link.target)}"
            )
            return
        if not link.target:
            raise ProtocolError("the peer sent a link without a target")
        os.symlink(link.target, name, dir_fd=above)

    def _folder(self) -> int:
        if not self._open or not self._open[-1].is_folder:
            raise ProtocolError("the peer sent an entry outside of a folder")
        return self._open[-1].fd

    def _shown_path(self, name: bytes) -> bytes:
        return b"/".join([self._path, *(o.entry.name for o in self._open[1:]), name])

    def _leave_out(self, text: str) -> None:
        self._left_out_count += 1
        if len(self._left_out) < MAX_REMARKS:
            self._left_out.append(text[:_MAX_REMARK])


def _text(error: OSError) -> str:
    if error.errno == errno.EEXIST:
        return "the peer sent the same name twice"
    return error.strerror or str(error)
