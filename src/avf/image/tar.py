"""Reads tar archives from front to back, as far as Debian packages use them: ustar and GNU's long names (deb(5)).

Every number is checked before it is used, nothing larger than a bound is read, and what dpkg refuses is refused:
names that lead out of the archive, unknown types, POSIX.1-2001 headers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from avf.image.unpack import Unpacked

MAX_FILE = 512 << 20
"""Bytes of one file."""
MAX_MEMBERS = 200_000
_MAX_NAME = 4096
_MAX_PART = 255
_MAX_DEPTH = 64
_BLOCK = 512
_LONG = {b"L": "name", b"K": "target"}


class TarError(ValueError):
    """Not a tar archive of the kind in Debian packages; the message names the member."""


class Kind(Enum):
    FILE = "file"
    HARD_LINK = "hard link"
    LINK = "symbolic link"
    DIRECTORY = "directory"
    DEVICE = "device or pipe"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.LINK,
    b"3": Kind.DEVICE,
    b"4": Kind.DEVICE,
    b"5": Kind.DIRECTORY,
    b"6": Kind.DEVICE,
}


@dataclass(frozen=True, slots=True)
class Member:
    """One entry. `path` has no leading `./` and no slash at its ends; it is empty for the root itself."""

    path: str
    kind: Kind
    mode: int
    target: str
    """Of a link, as it is written."""
    data: bytes
    """Of a file."""


def members(stream: Unpacked) -> Iterator[Member]:
    """The members in order, up to the block of zeros at the end. Raises TarError, or ValueError of `stream`."""
    long: dict[str, str] = {}
    for number in range(MAX_MEMBERS):
        header = stream.read(_BLOCK)
        if len(header) != _BLOCK:
            raise TarError(f"the archive ends early, after {number} members")
        if not any(header):
            return
        kind = header[156:157]
        where = f"member {number + 1}"
        size = _number(header[124:136], f"{where}: size")
        if _checksum(header) != _number(header[148:156], f"{where}: checksum"):
            raise TarError(f"{where}: wrong checksum")
        if kind in _LONG:
            long[_LONG[kind]] = _long_text(stream, size, where)
            continue
        yield _member(stream, header, size, where, long)
        long = {}
    raise TarError(f"more than {MAX_MEMBERS} members")


def _member(stream: Unpacked, header: bytes, size: int, where: str, long: dict[str, str]) -> Member:
    name = long.get("name") or _name(header, where)
    kind = _KINDS.get(header[156:157])
    where = f"{where} ({name!r:.200})"
    if kind is None:
        raise TarError(f"{where}: type {header[156:157]!r} is not known in Debian packages")
    target = long.get("target") or _text(header[157:257], where)
    mode = _number(header[100:108], f"{where}: mode") & 0o7777
    data = b""
    if kind is Kind.FILE:
        data = _content(stream, size, MAX_FILE, where)
    return Member(_path(name, where), kind, mode, target, data)


def _name(header: bytes, where: str) -> str:
    name = _text(header[:100], where)
    prefix = _text(header[345:500], where) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _path(name: str, where: str) -> str:
    """The path inside the archive."""
    parts = name.removeprefix("./").rstrip("/").split("/")
    if parts in ([""], ["."]) and not name.startswith("/"):
        return ""
    if any(part in ("", ".", "..") for part in parts):
        raise TarError(f"{where}: unsafe path")
    if len(parts) > _MAX_DEPTH or any(len(part.encode()) > _MAX_PART for part in parts):
        raise TarError(f"{where}: a path has at most {_MAX_DEPTH} parts of {_MAX_PART} bytes")
    return "/".join(parts)


def _long_text(stream: Unpacked, size: int, where: str) -> str:
    return _text(_content(stream, size, _MAX_NAME, f"{where}: a long name"), where)


def _content(stream: Unpacked, size: int, limit: int, where: str) -> bytes:
    if size > limit:
        raise TarError(f"{where}: {size} bytes, at most {limit} allowed")
    data = stream.read(size)
    padding = -size % _BLOCK
    if len(data) != size or stream.skip(padding) != padding:
        raise TarError(f"{where}: the archive ends early")
    return data


def _text(field: bytes, where: str) -> str:
    """Up to the first NUL."""
    try:
        return field.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        raise TarError(f"{where}: a name is not UTF-8") from None


def _number(field: bytes, where: str) -> int:
    """Octal digits, or GNU's binary form behind a first byte of 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if any(byte not in b"01234567" for byte in digits):
        raise TarError(f"{where} {field!r} is not a number")
    return int(digits or b"0", 8)


def _checksum(header: bytes) -> int:
    """The sum of all bytes, those of the checksum itself taken for spaces."""
    return sum(header) - sum(header[148:156]) + 8 * ord(" ")
