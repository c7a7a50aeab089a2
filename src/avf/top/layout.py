"""Lines laid out in rows of a screen, and found in them."""

from bisect import bisect_right
from collections.abc import Iterator

from rich.cells import cell_len, chop_cells

from avf.top.lines import Lines

MIN_WIDTH = 20


class Layout:
    """Which part of which line a row shows, with lines wrapped at a width or, for width 0, cut off by the screen."""

    def __init__(self, lines: Lines, width: int) -> None:
        self._lines = lines
        self._width = width and max(width, MIN_WIDTH)
        self._first = lines.first
        self._starts = [0]
        """The row that each line begins in, and the one after the last line's end, counted from the first ever."""
        self.widest = 0
        """Cells of the widest line so far."""
        self.update()

    def __len__(self) -> int:
        """How many rows there are."""
        return self._starts[-1] - self._starts[0]

    def update(self) -> int:
        """Takes in what has come. How many rows at the beginning have gone."""
        lines = self._lines
        gone = min(lines.first - self._first, len(self._starts) - 1)
        rows_gone = self._starts[gone] - self._starts[0]
        del self._starts[:gone]
        self._first = lines.first
        del self._starts[
            -1 if len(self._starts) > 1 else len(self._starts) :
        ]  # the last line may have grown
        for number in range(self._first + len(self._starts) - 1, lines.end):
            self._starts.append(self._starts[-1] + self._height(lines[number]))
        return rows_gone

    def _height(self, line: str) -> int:
        width = cells(line)
        self.widest = max(self.widest, width)
        if not self._width or width <= self._width:
            return 1
        return (
            -(-width // self._width) if width == len(line) else len(chop_cells(line, self._width))
        )

    def row(self, row: int) -> tuple[int, int, str]:
        """The line's number, where in the line the row begins, and its text. Raises IndexError."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        index = bisect_right(self._starts, row + self._starts[0]) - 1
        number, part = self._first + index, row + self._starts[0] - self._starts[index]
        line = self._lines[number]
        if not self._width or cells(line) <= self._width:
            return number, 0, line
        parts = wrapped(line, self._width)
        return number, sum(map(len, parts[:part])), parts[part] if part < len(parts) else ""

    def row_of(self, number: int) -> int:
        """The row that a line begins in; the nearest one for a line that is not there."""
        index = max(0, min(number - self._first, len(self._starts) - 1))
        return self._starts[index] - self._starts[0]


def cells(line: str) -> int:
    """How wide it is."""
    return len(line) if line.isascii() else cell_len(line)


def wrapped(line: str, width: int) -> list[str]:
    """The parts of a line, each of which fits in `width` cells."""
    if line.isascii():
        return [line[at : at + width] for at in range(0, len(line), width)] or [""]
    return chop_cells(line, width) or [""]


class Search:
    """Words to look for. Case counts only if there is a capital letter among them."""

    def __init__(self, term: str) -> None:
        self.term = term
        self._exact = term != term.lower()

    def spans(self, line: str) -> Iterator[tuple[int, int]]:
        """Where they are in a line."""
        text = line if self._exact else _lower(line)
        at = text.find(self.term)
        while at >= 0 and self.term:
            yield at, at + len(self.term)
            at = text.find(self.term, at + len(self.term))

    def found_in(self, line: str) -> bool:
        return bool(self.term) and self.term in (line if self._exact else _lower(line))

    def count(self, lines: Lines) -> int:
        """In how many lines they are."""
        return sum(map(self.found_in, lines))

    def after(self, lines: Lines, number: int) -> int | None:
        """The next line that has them, from the beginning again after the last one."""
        return self._first([*range(number + 1, lines.end), *range(lines.first, number + 1)], lines)

    def before(self, lines: Lines, number: int) -> int | None:
        """The line before that has them, from the end again before the first one."""
        order = [*range(number - 1, lines.first - 1, -1), *range(lines.end - 1, number - 1, -1)]
        return self._first(order, lines)

    def _first(self, order: list[int], lines: Lines) -> int | None:
        found = (n for n in order if lines.first <= n < lines.end and self.found_in(lines[n]))
        return next(found, None)


def _lower(line: str) -> str:
    """Of the same length, so that places stay the same."""
    lower = line.lower()
    return (
        lower
        if len(lower) == len(line)
        else "".join(c.lower() if len(c.lower()) == 1 else c for c in line)
    )
