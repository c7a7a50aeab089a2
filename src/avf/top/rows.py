"""The list of VMs."""

from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from avf.top.board import Board, Column, cell
from avf.top.cells import fitted
from avf.top.model import Phase, Vm
from avf.top.plot import over_time, sparkline

_WIDE = 110
_MAX_NAME = 36
_CURVE_SECONDS = 1.0
"""For each character of the curve."""
_LOOKS = {
    Phase.UNKNOWN: ("?", "dim"),
    Phase.MADE: ("○", "dim"),
    Phase.BOOTING: ("◐", "busy"),
    Phase.RUNNING: ("●", "busy"),
    Phase.READY: ("●", "good"),
    Phase.FINISHED: ("●", "dim"),
    Phase.ENDED: ("■", "dim"),
    Phase.FAILED: ("✗", "bad"),
}


@dataclass(frozen=True, slots=True)
class Slot:
    """A column on the screen; None is the curve of the CPU."""

    column: Column | None
    width: int
    to_the_right: bool = False


def slots(width: int) -> list[Slot]:
    """The columns that fit in so many cells, with a cell between two."""
    wide = width >= _WIDE
    fixed = [
        Slot(Column.CID, 7, True),
        Slot(Column.STATE, 22 if wide else 14),
        Slot(Column.CPU, 6, True),
        Slot(None, 10),
        Slot(Column.MEMORY, 7, True),
        Slot(Column.UPTIME, 8, True),
    ]
    if wide:
        fixed.append(Slot(Column.USER, 12))
    room = max(8, width - 2 - sum(slot.width + 1 for slot in fixed) - 1)
    name = min(room, _MAX_NAME)
    if room > name:
        fixed[3] = Slot(None, fixed[3].width + room - name)
    return [fixed[0], Slot(Column.NAME, name), *fixed[1:]]


class VmHead(Widget):
    """The names of the columns; a click sorts."""

    @dataclass
    class Clicked(Message):
        column: Column

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board

    def render(self) -> Content:
        parts = [Content("  ")]
        for slot in slots(self.size.width):
            name = "" if slot.column is None else slot.column.value
            chosen = slot.column is self._board.sort
            if chosen:
                name += "▲" if _rises(self._board) else "▼"
            text = name.rjust(slot.width) if slot.to_the_right else name.ljust(slot.width)
            parts += [Content.styled(text, "bold $foreground" if chosen else "$dim"), Content(" ")]
        return Content("").join(parts)

    def on_click(self, event: events.Click) -> None:
        at = 2
        for slot in slots(self.size.width):
            if at <= event.x <= at + slot.width:
                self.post_message(self.Clicked(slot.column or Column.CPU))
                return
            at += slot.width + 1


def _rises(board: Board) -> bool:
    largest_first = board.sort in (Column.CPU, Column.MEMORY, Column.UPTIME)
    return largest_first == board.backwards


class VmRows(ScrollView, can_focus=True):
    """One row a VM; only those that can be seen are drawn."""

    COMPONENT_CLASSES = {
        f"rows--{look}" for look in ("cursor", "dim", "good", "busy", "bad", "curve")
    }
    BINDINGS = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "move(-1000000)", show=False),
        Binding("end,G", "move(1000000)", show=False),
        Binding("enter", "open", "Open"),
    ]

    class Chosen(Message):
        """Another row is the chosen one."""

    class Opened(Message):
        """The chosen VM is to be looked at closely."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board

    def sync(self) -> None:
        """Shows what the board has now."""
        self.virtual_size = Size(self.size.width, len(self._board.rows))
        self._show_cursor()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        index = y + self.scroll_offset.y
        base = self.rich_style
        width = self.size.width
        if index >= len(self._board.rows):
            return Strip.blank(width, base)
        vm = self._board.rows[index]
        if index == self._board.index:
            base += self.get_component_rich_style("rows--cursor", partial=True)
        return Strip(self._segments(vm, base, width)).adjust_cell_length(width, base)

    def _segments(self, vm: Vm, base: Style, width: int) -> list[Segment]:
        sign, look = _LOOKS[vm.phase]
        tint = base + self._look(look)
        quiet = base + self._look("dim") if vm.has_ended or vm.details is None else base
        segments = [Segment(f"{sign} ", tint)]
        for slot in slots(width):
            style = quiet
            if slot.column is None:
                text, style = self._curve(vm, slot.width), base + self._look("curve")
            else:
                text = cell(vm, slot.column)
                style = tint if slot.column is Column.STATE else quiet
            segments.append(Segment(_fitted(text, slot) + " ", style))
        return segments

    def _curve(self, vm: Vm, width: int) -> str:
        if not vm.is_running:
            return " " * width
        samples = vm.samples[-4 * width :]
        used = [sample.cpu_percent for sample in samples]
        values = over_time([sample.at for sample in samples], used, width, _CURVE_SECONDS)
        return sparkline(values, width, max([100.0, *values]))

    def _look(self, name: str) -> Style:
        return self.get_component_rich_style(f"rows--{name}", partial=True)

    def _show_cursor(self) -> None:
        self.scroll_to_region(
            Region(0, self._board.index, 1, 1), animate=False, immediate=True, x_axis=False
        )

    def _choose(self, index: int) -> None:
        self._board.choose(index)
        self.sync()
        self.post_message(self.Chosen())

    def on_click(self, event: events.Click) -> None:
        index = event.y + self.scroll_offset.y
        if index < len(self._board.rows):
            self._choose(index)
            if event.chain == 2:
                self.action_open()

    def action_move(self, by: int) -> None:
        self._choose(self._board.index + by)

    def action_page(self, by: int) -> None:
        self._choose(self._board.index + by * max(1, self.size.height - 1))

    def action_open(self) -> None:
        if self._board.rows:
            self.post_message(self.Opened())


def _fitted(text: str, slot: Slot) -> str:
    text = fitted(text, slot.width)
    padding = " " * (slot.width - cell_len(text))
    return padding + text if slot.to_the_right else text + padding
