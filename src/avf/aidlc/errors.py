"""What is wrong with .aidl files, and how it is told.

AidlError       one run's errors, each with its place; `str()` is what people read
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from avf.printable import printable, printable_lines

from .limits import ERRORS, SHOWN
from .source import Source, Span

_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Place:
    """A span of a source."""

    source: Source
    span: Span

    def __str__(self) -> str:
        line, column = self.source.locate(self.span.start)
        return f"{self.source.path}:{line}:{column}"

    def excerpt(self) -> list[str]:
        """The line, or as much of it as is good to read, and below it a caret under the place."""
        number, column = self.source.locate(self.span.start)
        text = self.source.line(number)
        left = column - 1 - _WIDTH // 2 if column > _WIDTH - 20 else 0
        text = text[left : left + _WIDTH]
        before = text[: column - 1 - left]
        margin = "".join("\t" if char == "\t" else " " for char in before)
        length = min(self.span.end - self.span.start, len(text) - len(before))
        return [text, f"{margin}^{'~' * max(length - 1, 0)}"]


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error; `place` is None for what is no file's fault. `notes` tell of other places."""

    message: str
    place: Place | None = None
    notes: tuple[tuple[str, Place | None], ...] = ()

    def lines(self) -> Iterator[str]:
        """`FILE:LINE:COLUMN: error: MESSAGE` and the line of source, then the notes likewise."""
        yield from _told("error", self.message, self.place)
        for message, place in self.notes:
            yield from _told("note", message, place)


def _told(severity: str, message: str, place: Place | None) -> Iterator[str]:
    yield printable(f"{place}: {severity}: {message}" if place else f"{severity}: {message}")
    if place:
        yield from map(printable_lines, place.excerpt())


class AidlError(Exception):
    """.aidl files could not be compiled; nothing was written. `more`: there are errors beyond those told."""

    def __init__(self, diagnostics: Iterable[Diagnostic], *, more: bool = False) -> None:
        self.diagnostics = tuple(diagnostics)
        self.more = more
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return "\n".join(line for found in self.diagnostics for line in found.lines())


class Diagnostics:
    """Collects errors, so that one run tells of several. The same error at the same place is told once.

    The run ends with the first error above ERRORS.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, str], Diagnostic] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def error(
        self,
        message: str,
        source: Source | None = None,
        span: Span | None = None,
        *notes: tuple[str, Place | None],
    ) -> None:
        """Notes an error. Raises AidlError with all errors if it is one too many."""
        place = Place(source, span) if source is not None and span is not None else None
        key = (source.path if source else "", span.start if span else 0, message)
        if key in self._found:
            return
        if len(self._found) == ERRORS:
            raise AidlError(self._ordered(), more=True)
        self._found[key] = Diagnostic(message, place, notes)

    def check(self) -> None:
        """Raises AidlError if there were errors: in the order of files, then of places."""
        if self._found:
            raise AidlError(self._ordered())

    def _ordered(self) -> list[Diagnostic]:
        return [self._found[key] for key in sorted(self._found, key=lambda k: k[:2])]


def shortened(text: str) -> str:
    """A file's text for a message: its beginning, if it is long."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
