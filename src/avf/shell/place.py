"""Where what is received goes: built up beside its place, moved there when it is whole.

Nothing of another kind is ever replaced: a file takes the place of a file, a link that of a link; a folder that is
there already keeps what is in it, and gets what is new.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from avf.shell.entries import shown
from avf.shell.errors import TransferError

STAGED = b"new"
"""What the thing is called while it is built up, in a folder of its own."""
_PREFIX = b".avf-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMES = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Place:
    """A name in an open folder."""

    def __init__(self, folder: int, name: bytes, path: bytes) -> None:
        """Takes `folder` over. `path` is for messages."""
        self.folder = folder
        self.name = name
        self.path = path

    @contextmanager
    def staging(self) -> Iterator[int]:
        """A folder beside the place, for this process alone. It is gone in the end. Raises TransferError."""
        name = _PREFIX + os.urandom(8).hex().encode()
        try:
            os.mkdir(name, 0o700, dir_fd=self.folder)
        except OSError as error:
            raise TransferError(f"{shown(self.path)}: {error.strerror}") from error
        try:
            fd = os.open(name, _FOLDER, dir_fd=self.folder)
            try:
                yield fd
            finally:
                os.close(fd)
        finally:
            remove(self.folder, name)

    def fill(self, staging: int) -> None:
        """Moves what is STAGED to its place. Raises TransferError; nothing has changed then if kinds do not fit."""
        try:
            _check(staging, STAGED, self.folder, self.name, self.path)
            _move(staging, STAGED, self.folder, self.name)
        except OSError as error:
            raise TransferError(f"{shown(self.path)}: {error.strerror}") from error

    def close(self) -> None:
        """Closes the descriptor of the folder."""
        os.close(self.folder)


def find_place(target: bytes, name: bytes, *, into: bool) -> Place:
    """Below `target` if that is a folder, with `name`; else `target` itself, which must not be one if `into` is set.

    Raises TransferError.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        folder = os.open(target, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        if into or target.endswith(b"/"):
            raise TransferError(f"{shown(target)}: {error.strerror}") from error
    except OSError as error:
        raise TransferError(f"{shown(target)}: {error.strerror}") from error
    else:
        return _place(folder, name, os.path.join(target, name))
    above, last = os.path.split(target)
    try:
        return _place(os.open(above or b".", flags), last, target)
    except OSError as error:
        raise TransferError(f"{shown(above)}: {error.strerror}") from error


def _place(folder: int, name: bytes, path: bytes) -> Place:
    if not name or name in (b".", b"..") or b"/" in name:
        os.close(folder)
        raise TransferError(f"{shown(path)}: there is no name for what is to be made")
    return Place(folder, name, path)


def remove(folder: int, name: bytes) -> None:
    """Removes a folder and all that is in it, as far as that can be done."""
    try:
        fd = _open_folder(folder, name)
        try:
            os.fchmod(fd, 0o700)
            with os.scandir(fd) as entries:
                found = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in entries]
            for entry, is_folder in found:
                if is_folder:
                    remove(fd, entry)
                else:
                    os.unlink(entry, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=folder)
    except OSError:
        pass  # it is ours and under no other name; whoever looks at the folder finds it


def _kind(folder: int, name: bytes) -> int | None:
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def _check(source: int, name: bytes, folder: int, target: bytes, path: bytes) -> None:
    """Raises TransferError if something of another kind is in the way."""
    new, present = _kind(source, name), _kind(folder, target)
    if present is None:
        return
    if new != present:
        raise TransferError(
            f"{shown(path)} is {_NAMES.get(present, 'something else')},"
            f" not {_NAMES.get(new or 0, 'something else')}; it stays as it is"
        )
    if new == stat.S_IFDIR:
        with _both(source, name, folder, target) as (inside, existing):
            for entry in _names(inside):
                _check(inside, entry, existing, entry, path + b"/" + entry)


def _move(source: int, name: bytes, folder: int, target: bytes) -> None:
    new, present = _kind(source, name), _kind(folder, target)
    if new != stat.S_IFDIR:
        if present is not None and present != new:
            raise FileExistsError(17, "it has become something of another kind")
        os.rename(name, target, src_dir_fd=source, dst_dir_fd=folder)
    elif present is None:
        _move_folder(source, name, folder, target)
    else:
        with _both(source, name, folder, target) as (inside, existing):
            for entry in _names(inside):
                _move(inside, entry, existing, entry)


def _move_folder(source: int, name: bytes, folder: int, target: bytes) -> None:
    """Whoever is not root may move a folder only while it may write to it."""
    mode = stat.S_IMODE(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode)
    fd = _open_folder(source, name)
    try:
        os.fchmod(fd, mode | 0o700)
        os.rename(name, target, src_dir_fd=source, dst_dir_fd=folder)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


@contextmanager
def _both(source: int, name: bytes, folder: int, target: bytes) -> Iterator[tuple[int, int]]:
    inside = _open_folder(source, name)
    try:
        os.fchmod(inside, 0o700)  # it goes, and what is in it is moved
        existing = os.open(target, _FOLDER, dir_fd=folder)
        try:
            yield inside, existing
        finally:
            os.close(existing)
    finally:
        os.close(inside)


def _open_folder(folder: int, name: bytes) -> int:
    """Opens one of ours, whose mode may forbid even that."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=folder)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=folder)
        return os.open(name, _FOLDER, dir_fd=folder)
    return fd


def _names(fd: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(fd)]
