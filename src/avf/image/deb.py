"""Reads Debian packages: an ar archive with a compressed tar inside (deb(5)). Nothing is run, no owner is kept."""

import lzma
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from avf.image.errors import PackageError

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_SIZE = 60


@dataclass(frozen=True, slots=True)
class File:
    """A regular file: permission bits and content."""

    mode: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


Entry = File | Link


def entries(deb: Path) -> Iterator[tuple[str, Entry]]:
    """Every file and link of a package as (path without a leading slash, entry). Raises PackageError."""
    with _data_archive(deb) as archive:
        try:
            for member in archive:
                path = member.name.removeprefix("./").rstrip("/")
                if ".." in path.split("/") or path.startswith("/"):
                    raise PackageError(f"{deb}: unsafe path {member.name!r}")
                if member.issym():
                    yield path, Link(member.linkname)
                elif member.isfile() or member.islnk():
                    content = archive.extractfile(member)
                    assert content is not None
                    yield path, File(member.mode & 0o777, content.read())
        except (tarfile.TarError, lzma.LZMAError, zstandard.ZstdError, EOFError, KeyError) as error:
            raise PackageError(f"{deb}: damaged data archive: {error}") from error


@contextmanager
def _data_archive(deb: Path) -> Iterator[tarfile.TarFile]:
    with deb.open("rb") as file:
        name = _seek_data_member(deb, file)
        match name.rpartition(".")[2]:
            case "zst":
                with (
                    zstandard.ZstdDecompressor().stream_reader(file, closefd=False) as plain,
                    tarfile.open(fileobj=plain, mode="r|") as archive,
                ):
                    yield archive
            case "xz" | "gz" | "tar" as kind:
                mode = "r|" if kind == "tar" else f"r|{kind}"
                with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
                    yield archive
            case _:
                raise PackageError(f"{deb}: unknown compression of {name!r}")


def _seek_data_member(deb: Path, file: IO[bytes]) -> str:
    """Leaves `file` at the start of data.tar.*, which dpkg requires to be the last member it reads."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise PackageError(f"{deb}: not a Debian package")
    while len(header := file.read(_AR_HEADER_SIZE)) == _AR_HEADER_SIZE:
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        try:
            size = int(header[48:58])
        except ValueError:
            raise PackageError(f"{deb}: bad size of archive member {name!r}") from None
        if name.startswith("data.tar"):
            return name
        file.seek(size + size % 2, 1)
    raise PackageError(f"{deb}: no data.tar member")
