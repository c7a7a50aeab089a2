"""The text of a VM: lines that are scrolled, wrapped and searched."""

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from avf.top.layout import Layout, Search
from avf.top.lines import Lines


class OutputView(ScrollView, can_focus=True):
    """Shows Lines. It follows what comes while its end is in sight."""

    ALLOW_SELECT = True
    COMPONENT_CLASSES = {"output--match", "output--current"}
    BINDINGS = [
        Binding("up,k", "scroll_up", show=False),
        Binding("down,j", "scroll_down", show=False),
        Binding("space", "page_down", show=False),
        Binding("home,g", "first", show=False),
        Binding("end,G,f", "last", show=False),
        Binding("n", "find(1)", show=False),
        Binding("N", "find(-1)", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.wraps = True
        self.follows = True
        self.search = Search("")
        self._found: int | None = None
        self._lines = Lines()
        self._layout = Layout(self._lines, 0)

    @property
    def lines(self) -> Lines:
        return self._lines

    @property
    def found_at(self) -> int | None:
        """The number of the line that was found last."""
        return self._found

    def show(self, lines: Lines, *, from_the_end: bool) -> None:
        """From now on those lines, and at first their end or their beginning."""
        self._lines = lines
        self._found = None
        self.follows = from_the_end
        self._scroll(0)
        self.follows = from_the_end
        self._lay_out()

    def sync(self) -> None:
        """Takes in what has come."""
        gone = self._layout.update()
        self._set_size()
        if self.follows:
            self._scroll(self.max_scroll_y)
        elif gone:
            self._scroll(self.scroll_offset.y - gone)
        self.refresh()

    def search_for(self, term: str) -> None:
        """Marks what is found, and goes to the last place of it."""
        self.search = Search(term)
        self._found = None
        if term:
            self._go_to(self.search.before(self._lines, self._lines.end))
        self.refresh()

    def toggle_wrap(self) -> None:
        self.wraps = not self.wraps
        self._lay_out()

    def _lay_out(self) -> None:
        top = (
            self._layout.row(self.scroll_offset.y)[0] if self._has_row(self.scroll_offset.y) else 0
        )
        width = self.scrollable_content_region.width
        self._layout = Layout(self._lines, width if self.wraps else 0)
        self._set_size()
        self._scroll(self.max_scroll_y if self.follows else self._layout.row_of(top))
        self.refresh()

    def _has_row(self, row: int) -> bool:
        try:
            self._layout.row(row)
        except IndexError:
            return False
        return True

    def _set_size(self) -> None:
        width = 0 if self.wraps else self._layout.widest
        self.virtual_size = Size(width, len(self._layout))

    def _scroll(self, row: float) -> None:
        self.scroll_to(y=row, animate=False, immediate=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.follows = new_value >= self.max_scroll_y

    def on_resize(self) -> None:
        self._lay_out()

    def action_first(self) -> None:
        self._scroll(0)

    def action_last(self) -> None:
        self.follows = True
        self._scroll(self.max_scroll_y)

    def action_find(self, direction: int) -> None:
        if not self.search.term:
            return
        at = self._found
        if at is None:
            at = self._lines.end if direction < 0 else self._lines.first - 1
        find = self.search.after if direction > 0 else self.search.before
        self._go_to(find(self._lines, at))

    def _go_to(self, number: int | None) -> None:
        self._found = number
        if number is not None:
            row = self._layout.row_of(number)
            height = self.scrollable_content_region.height
            if not self.scroll_offset.y <= row < self.scroll_offset.y + height:
                self._scroll(max(0, row - height // 2))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        scroll_x, scroll_y = self.scroll_offset
        base, width = self.rich_style, self.scrollable_content_region.width
        row = y + scroll_y
        try:
            number, begins, text = self._layout.row(row)
        except IndexError:
            return Strip.blank(width, base)
        strip = Strip(self._segments(number, begins, text, base, self._selected(row, len(text))))
        return strip.crop_extend(scroll_x, scroll_x + width, base).apply_offsets(scroll_x, row)

    def _segments(
        self, number: int, begins: int, text: str, base: Style, selected: tuple[int, int]
    ) -> list[Segment]:
        """The text cut where its look changes. It goes into segments as it is: nothing reads it as markup."""
        looks = [base] * len(text)
        current = number == self._found
        look = self.get_component_rich_style("output--current" if current else "output--match")
        match = base + look
        for start, end in self.search.spans(self._lines[number]) if self.search.term else ():
            for at in range(max(0, start - begins), min(len(text), end - begins)):
                looks[at] = match
        if selected[0] < selected[1]:
            style = self.screen.get_component_rich_style("screen--selection")
            looks[selected[0] : selected[1]] = [base + style] * (selected[1] - selected[0])
        return _runs(text, looks)

    def _selected(self, row: int, length: int) -> tuple[int, int]:
        selection = self.text_selection
        span = None if selection is None else selection.get_span(row)
        if span is None:
            return 0, 0
        return span[0], length if span[1] == -1 else min(span[1], length)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        rows = [self._layout.row(row)[2] for row in range(len(self._layout))]
        return selection.extract("\n".join(rows)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()


def _runs(text: str, looks: list[Style]) -> list[Segment]:
    segments = []
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or looks[at] is not looks[start]:
            segments.append(Segment(text[start:at], looks[start]))
            start = at
    return segments
