"""What a guest has written, as lines that a terminal may show: bounded, and without any effect but to be read.

What a guest writes may hold anything. Characters that are not visible are written out (`\\u{1b}`), so that no sequence
reaches the terminal; several marks over one character are, too. Nothing here knows markup.
"""

import codecs
import unicodedata
from collections.abc import Iterator

from avf.printable import escaped, printable

MAX_LINES = 10_000
MAX_CHARS = 2 << 20
MAX_LINE = 2000
"""Longer lines are cut into several."""
_TAB = 8
_MARKS = frozenset(("Mn", "Me"))
_MAX_MARKS = 2
"""As many combining characters may follow one another."""


class Lines:
    """The last lines of a stream of bytes. Lines are counted from 0 on, and keep their numbers when earlier ones go."""

    def __init__(self, max_lines: int = MAX_LINES, max_chars: int = MAX_CHARS) -> None:
        self._max_lines = max_lines
        self._max_chars = max_chars
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._closed: list[str] = []
        self._chars = 0
        self._open = ""
        self.first = 0
        """The number of the first line that is kept: so many were dropped."""
        self.received = 0
        """Bytes."""

    def __len__(self) -> int:
        """How many lines are kept."""
        return len(self._closed) + bool(self._open)

    @property
    def end(self) -> int:
        """The number after the last line."""
        return self.first + len(self)

    def __getitem__(self, number: int) -> str:
        """The line with that number. Raises IndexError."""
        index = number - self.first
        if index == len(self._closed) and self._open:
            return visible(self._open)
        if index < 0:
            raise IndexError(number)
        return self._closed[index]

    def __iter__(self) -> Iterator[str]:
        yield from self._closed
        if self._open:
            yield visible(self._open)

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """Takes what comes next; `final`: nothing more does."""
        self.received += len(data)
        text = self._open + self._decoder.decode(data, final)
        *closed, self._open = text.split("\n")
        for line in closed:
            self._close(line)
        while len(self._open) > MAX_LINE:
            self._add(self._open[:MAX_LINE])
            self._open = self._open[MAX_LINE:]
        self._trim()

    def _close(self, line: str) -> None:
        line = line.rstrip("\r")
        while len(line) > MAX_LINE:
            self._add(line[:MAX_LINE])
            line = line[MAX_LINE:]
        self._add(line)

    def _add(self, line: str) -> None:
        shown = visible(line)
        self._closed.append(shown)
        self._chars += len(shown)

    def _trim(self) -> None:
        """Drops the first lines if there are too many, some more than need be, so that it is seldom done."""
        if len(self._closed) <= self._max_lines and self._chars <= self._max_chars:
            return
        drop, chars = 0, self._chars
        lines, size = self._max_lines * 7 // 8, self._max_chars * 7 // 8
        while drop < len(self._closed) and (len(self._closed) - drop > lines or chars > size):
            chars -= len(self._closed[drop])
            drop += 1
        del self._closed[:drop]
        self._chars = chars
        self.first += drop


def visible(line: str) -> str:
    """One line with nothing but visible characters, in their usual order."""
    line = line.rstrip("\r").expandtabs(_TAB)
    if line.isascii() and line.isprintable():
        return line
    return _without_heaps(printable(line))


def _without_heaps(line: str) -> str:
    """Writes out combining characters that would heap up over one place."""
    if line.isascii():
        return line
    marks = 0
    shown = []
    for char in line:
        marks = marks + 1 if unicodedata.category(char) in _MARKS else 0
        shown.append(char if marks <= _MAX_MARKS else escaped(char))
    return "".join(shown)


def short(text: str, length: int) -> str:
    """So many visible characters; what is cut off is told by an ellipsis."""
    shown = visible(text[: 4 * length])
    return shown if len(shown) <= length else shown[: length - 1] + "…"
