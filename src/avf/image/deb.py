"""Reads Debian packages: an ar archive with a compressed tar inside (deb(5)). Nothing is run, no owner is kept."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from avf.image.errors import PackageError
from avf.image.tar import Kind, members
from avf.image.unpack import Unpacked

MAX_UNPACKED = 4 << 30
"""Bytes that the files of one package may have in all."""
_MAX_MEMBERS = 16
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_SIZE = 60
_AR_END = b"`\n"
_KINDS = {"data.tar": "tar", "data.tar.gz": "gz", "data.tar.xz": "xz", "data.tar.zst": "zst"}


@dataclass(frozen=True, slots=True)
class File:
    """A regular file: permission bits and content."""

    mode: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class HardLink:
    """Another name of a file that comes before it in the package."""

    target: str


Entry = File | Link | HardLink


def entries(deb: Path) -> Iterator[tuple[str, Entry]]:
    """Every file and link of a package as (path without a leading slash, entry); no devices. Raises PackageError."""
    with deb.open("rb") as file:
        kind, part = _data_member(deb, file)
        try:
            for member in members(Unpacked(kind, part, MAX_UNPACKED)):
                if member.kind is Kind.FILE:
                    yield member.path, File(member.mode & 0o777, member.data)
                elif member.kind is Kind.LINK:
                    yield member.path, Link(member.target)
                elif member.kind is Kind.HARD_LINK:
                    yield member.path, HardLink(member.target.removeprefix("./"))
        except ValueError as error:
            raise PackageError(f"{deb}: damaged data archive: {error}") from error


def write(root: Path, path: str, entry: Entry) -> None:
    """Makes an entry below `root`, over one of the same path. Raises PackageError rather than to follow a link."""
    target = root / path
    _make_parents(root, target)
    if target.is_dir() and not target.is_symlink():
        raise PackageError(f"{path} is a directory and something else in one package")
    target.unlink(missing_ok=True)
    if isinstance(entry, Link):
        target.symlink_to(entry.target)
    elif isinstance(entry, HardLink):
        raise PackageError(f"{path} is a hard link, which is not supported")
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(target, flags, 0o600), "wb") as file:
            file.write(entry.data)
            os.fchmod(file.fileno(), entry.mode)


def _make_parents(root: Path, target: Path) -> None:
    for parent in reversed(target.parents[: -len(root.parents) - 1]):
        try:
            parent.mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(parent.lstat().st_mode):
                raise PackageError(
                    f"{target.relative_to(root)} lies below something that is no directory"
                ) from None


class _Part:
    """So many bytes of a file from where it stands."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int, /) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


def _data_member(deb: Path, file: IO[bytes]) -> tuple[str, _Part]:
    """The compression and the bytes of data.tar.*, which dpkg requires to be the last member it reads."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise PackageError(f"{deb}: not a Debian package")
    for _ in range(_MAX_MEMBERS):
        header = file.read(_AR_HEADER_SIZE)
        if len(header) != _AR_HEADER_SIZE:
            break
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        digits = header[48:58].rstrip(b" ")
        if not digits.isdigit() or header[58:] != _AR_END:
            raise PackageError(f"{deb}: bad size of archive member {name!r}")
        size = int(digits)
        if name.startswith("data.tar"):
            if name not in _KINDS:
                raise PackageError(f"{deb}: unknown compression of {name!r}")
            return _KINDS[name], _Part(file, size)
        file.seek(size + size % 2, os.SEEK_CUR)
    raise PackageError(f"{deb}: no data.tar member")
