"""Manifests and signature files: sections of `Name: value` lines, up to an empty line.

Lines end with CR LF, LF or CR; a line that begins with a space goes on with the one before. Source: the JAR File
Specification, "Name-Value pairs and Sections", read as leniently as Android does.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_SECTION = re.compile(rb"(?:[^\r\n]+(?:\r\n|\r|\n|\Z))+(?:\r\n|\r|\n|\Z)")
_CONTINUED = re.compile(rb"(?:\r\n|\r|\n) ")
_SEPARATOR = ": "


class Section(NamedTuple):
    """Where a section begins and ends, the empty line behind it included, and the bytes that it is of."""

    data: bytes
    start: int
    end: int

    @property
    def encoded(self) -> bytes:
        return self.data[self.start : self.end]

    @property
    def name(self) -> str | None:
        """The value of its first attribute, which must be called Name."""
        name, value = next(self.pairs())
        return value if name.lower() == "name" else None

    def attributes(self) -> dict[str, str]:
        """Values by name in lower case; the first one counts."""
        found: dict[str, str] = {}
        for name, value in self.pairs():
            found.setdefault(name.lower(), value)
        return found

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Names and values in order."""
        for line in _CONTINUED.sub(b"", self.encoded).splitlines():
            if line:
                name, _, value = line.decode("utf-8", "replace").partition(_SEPARATOR)
                yield name, value


def sections(data: bytes) -> Iterator[Section]:
    """The sections in order; the first one is the main section."""
    for match in _SECTION.finditer(data):
        yield Section(data, match.start(), match.end())
