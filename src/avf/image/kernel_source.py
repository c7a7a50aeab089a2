"""Unpacks the kernel's source out of the distribution's package: a tar archive inside of it, compressed once more.

What cannot be part of a guest's kernel is left out, but for the files that configuration and build read everywhere.
"""

import re
from io import BytesIO
from pathlib import Path

from avf.image import deb
from avf.image.apt import Package
from avf.image.errors import PackageError
from avf.image.tar import Kind, Member, members
from avf.image.unpack import Unpacked

_ARCHIVE = re.compile(r"usr/src/linux-source-[^/]+\.tar\.(?P<kind>xz|gz|zst)")
_LEFT_OUT = re.compile(
    r"(arch/(?!x86/)[^/]+|Documentation|LICENSES|samples|sound|tools/testing|tools/perf"
    r"|drivers/(gpu|infiniband|iio|isdn|media|mtd|net/(ethernet|wireless)|scsi|staging|usb|video))/"
)
_READ_EVERYWHERE = re.compile(r"(Kconfig|Makefile|Kbuild)[^/]*")


def unpack_source(package: Package, target: Path) -> None:
    """The source, into the folder `target`. Raises PackageError."""
    kind, archive = _archive(package)
    try:
        for member in members(Unpacked(kind, BytesIO(archive), deb.MAX_UNPACKED)):
            path = member.path.partition("/")[2]  # without the folder that holds all of it
            entry = _entry(member)
            if entry is not None and _is_wanted(path):
                deb.write(target, path, entry)
    except ValueError as error:
        raise PackageError(f"{package.path}: damaged source archive: {error}") from error
    if not (target / "Makefile").is_file():
        raise PackageError(f"{package.path}: no Makefile in the source archive")


def _archive(package: Package) -> tuple[str, bytes]:
    for path, entry in deb.entries(package.path):
        match = _ARCHIVE.fullmatch(path)
        if match is not None and isinstance(entry, deb.File):
            return match["kind"], entry.data
    raise PackageError(f"{package.path}: no source archive that can be read")


def _entry(member: Member) -> deb.Entry | None:
    if member.kind is Kind.FILE:
        return deb.File(member.mode & 0o777, member.data)
    return deb.Link(member.target) if member.kind is Kind.LINK else None


def _is_wanted(path: str) -> bool:
    name = path.rpartition("/")[2]
    return _LEFT_OUT.match(path) is None or _READ_EVERYWHERE.fullmatch(name) is not None
