"""Write files so that each appears under its name whole or not at all, and never over a file that is read."""

import contextlib
import errno
import io
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from avf.apk.errors import InputError, OutputError
from avf.apk.files import about
from avf.overwriting import Kind, foreign

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


def check_collisions(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """OutputError if an output is one of the inputs or another output, under whatever name; nothing is opened."""
    used = list(inputs)
    for output in outputs:
        for other in used:
            if _is_same(output, other):
                raise OutputError(
                    f"the output is the same file as {os.fspath(other)!r}", file=os.fspath(output)
                )
        used.append(output)


def _is_same(one: Path, other: Path) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


class Outputs:
    """New contents for several files; `commit` gives all of them their names.

    Contents are written to a file without a name in the directory of the output: nothing is left of it if the process
    is killed. A file that is replaced keeps its mode, and its owner and group where that is permitted. Leaving the
    context without `commit` changes nothing. Errors of writing name the path that was asked for.
    """

    def __init__(self) -> None:
        self._pending: list[_Pending] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, path: Path, kind: Kind) -> BinaryIO:
        """A file for the contents of `path`, open for reading and writing. A symbolic link is followed.

        InputError if `path` is there and is no regular file; OutputError if it is one of another kind.
        """
        target = Path(os.path.realpath(path))
        old = _status(target)
        if old:
            _check_kind(path, target, kind)
        pending = self._stack.enter_context(_pending(target, path))
        if old:
            _keep_owner(pending.file.fileno(), old)
            os.fchmod(pending.file.fileno(), stat.S_IMODE(old.st_mode) & 0o777)
        self._pending.append(pending)
        return pending.file

    def commit(self) -> None:
        """Put every file in its place; all are on the disk before the first has its name."""
        for pending in self._pending:
            pending.file.flush()
            with about(pending.target):
                os.fsync(pending.file.fileno())
        for pending in self._pending:
            pending.put()
        self._pending.clear()


class _File(io.BufferedRandom):
    """Contents for `path`, which errors of writing name."""

    def __init__(self, raw: io.FileIO, path: Path) -> None:
        super().__init__(raw)
        self._path = path

    def write(self, data: "Buffer", /) -> int:
        with about(self._path):
            return super().write(data)

    def flush(self) -> None:
        with about(self._path):
            super().flush()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Writes what is buffered."""
        with about(self._path):
            return super().seek(offset, whence)


class _Pending(NamedTuple):
    file: BinaryIO
    target: Path
    temporary: Path
    named: bool
    """Does the file have its temporary name already?"""

    def put(self) -> None:
        """A rename replaces a file, a hard link does not."""
        if not self.named:
            fd = self.file.fileno()
            os.link(f"/proc/self/fd/{fd}", self.temporary, src_dir_fd=fd, follow_symlinks=True)
        try:
            self.temporary.replace(self.target)
        except OSError:
            self.temporary.unlink(missing_ok=True)
            raise


@contextmanager
def _pending(target: Path, path: Path) -> Iterator[_Pending]:
    temporary = target.with_name(f".avf-apk-{secrets.token_hex(8)}")
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        fd = os.open(target.parent, os.O_TMPFILE | flags, 0o666)
        named = False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | flags, 0o666)
        named = True
    try:
        with _File(io.FileIO(fd, "r+b"), path) as file:
            yield _Pending(file, target, temporary, named)
    finally:
        if named:
            temporary.unlink(missing_ok=True)


def _check_kind(path: Path, target: Path, kind: Kind) -> None:
    try:
        fd = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise OutputError("not readable, so it may be anything", file=os.fspath(path)) from None
    try:
        found = foreign(fd, kind)
    finally:
        os.close(fd)
    if found is not None:
        raise OutputError(
            f"the output is not empty and is no {kind.value}: {found}", file=os.fspath(path)
        )


def _keep_owner(fd: int, old: os.stat_result) -> None:
    for owner in ((old.st_uid, old.st_gid), (-1, old.st_gid)):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, *owner)
            return


def _status(path: Path) -> os.stat_result | None:
    """Of the file that is to be replaced, None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise InputError("output is not a regular file", file=os.fspath(path))
    return status
