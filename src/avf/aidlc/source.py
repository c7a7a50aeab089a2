"""The text of one .aidl file and places in it."""

import bisect
from array import array
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` up to `end` of a source."""

    start: int
    end: int

    def to(self, other: "Span") -> "Span":
        """From the start of this one to the end of the other."""
        return Span(self.start, max(self.end, other.end))


class Source:
    """A file's text. `path` is how messages call it; `place` is where it is, if it is a file of its own."""

    def __init__(self, path: str, text: str, place: PurePath | None = None) -> None:
        self.path = path
        self.text = text
        self.place = place

    @cached_property
    def _starts(self) -> "array[int]":
        starts = array("L", [0])
        at = -1
        while (at := self.text.find("\n", at + 1)) >= 0:
            starts.append(at + 1)
        return starts

    def locate(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1."""
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """A line's text without its end."""
        start = self._starts[number - 1]
        stop = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[start:stop].rstrip("\r")
