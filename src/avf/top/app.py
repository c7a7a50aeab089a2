"""The view itself."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from textual import events
from textual.app import App, ComposeResult, SuspendNotSupported
from textual.binding import Binding
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import Footer, Static

from avf.binder import BinderError
from avf.causes import words
from avf.client import ClientError
from avf.top.board import Board, Column
from avf.top.chosen import Curve, about, show_cpu, show_memory, summary
from avf.top.dialogs import HelpDialog, StopDialog
from avf.top.doors import Doors, Source
from avf.top.lines import visible
from avf.top.model import Snapshot, Vm
from avf.top.output import OutputView
from avf.top.panel import OutputPanel, Tab, TabBar
from avf.top.prompt import Prompt
from avf.top.rows import VmHead, VmRows
from avf.top.theme import CSS, DARK, LIGHT

_TICK_SECONDS = 0.25
_LARGE = (130, 32)
"""Columns and lines from which on there are frames, and things lie side by side."""
_AFTER_SHELL = b"\x1b[!p\x1b(B\x0f"
"""A guest has had the terminal: the usual modes and the usual characters again (DECSTR, ASCII, SI)."""


class TopApp(App[int]):
    """Shows what `source` knows, and enters VMs by `doors`."""

    CSS = CSS
    TITLE = "vm top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [
        Binding("question_mark,f1,h", "help", "Help", key_display="?"),
        Binding("slash", "find", "Find", key_display="/"),
        Binding("less_than_sign", "sort(-1)", show=False),
        Binding("greater_than_sign", "sort(1)", show=False),
        Binding("i", "reverse", show=False),
        Binding("tab", "switch", "List/text", key_display="Tab", priority=True),
        Binding("c", "tab('CONSOLE')", show=False),
        Binding("l", "tab('LOG')", show=False),
        Binding("r", "tab('REPORT')", show=False),
        Binding("w", "wrap", show=False),
        Binding("a", "everybody", show=False),
        Binding("C", "clear", show=False),
        Binding("s", "shell", "Shell"),
        Binding("x,f9,delete", "stop", "Stop", key_display="x"),
        Binding("t", "light", show=False),
        Binding("escape", "leave_text", show=False),
        Binding("q,f10,ctrl+c", "quit", "Quit", key_display="q"),
    ]

    def __init__(
        self, source: Source, doors: Doors, *, everybody: bool = False, light: bool = False
    ) -> None:
        super().__init__()
        self._source = source
        self._doors = doors
        self._everybody = everybody
        self.board = Board()
        self._stopping: set[asyncio.Task[None]] = set()
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = (LIGHT if light else DARK).name

    def compose(self) -> ComposeResult:
        yield Static(id="summary")
        with Vertical(id="list"):
            yield VmHead(self.board)
            yield VmRows(self.board)
            yield Static(id="none")
        with Container(id="middle"):
            yield Static(id="about")
            with Container(id="curves"):
                yield Curve("cpu")
                yield Curve("memory")
        yield OutputPanel(self._doors)
        yield Prompt()
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.exit, 128 + number)
        self.set_interval(_TICK_SECONDS, self._tick)
        self.query_one(VmRows).focus()
        self._tick()

    def on_resize(self, event: events.Resize) -> None:
        columns, lines = event.size
        self.screen.set_class(columns >= _LARGE[0] and lines >= _LARGE[1], "-large")
        self.call_after_refresh(self._show)

    @property
    def _is_large(self) -> bool:
        return self.screen.has_class("-large")

    # What is shown

    def _tick(self) -> None:
        snapshot = self._source.snapshot()
        if _marks(snapshot) != _marks(self.board.snapshot):
            self.board.update(snapshot)
            self._show()

    def _show(self) -> None:
        """Does nothing while the view is taken apart, which timers and messages may come into."""
        if not self.is_running:
            return
        board, snapshot = self.board, self.board.snapshot
        self.query_one("#summary", Static).update(summary(snapshot, self.size.width - 2))
        self._show_list()
        self.query_one(VmHead).refresh()
        self.query_one(VmRows).sync()
        self.query_one("#about", Static).update(about(board.chosen, snapshot, tall=self._is_large))
        ended = board.chosen is not None and board.chosen.has_ended
        self.query_one("#middle").set_class(ended, "-ended")
        show_cpu(self.query_one("#cpu", Curve), board.chosen, snapshot.host)
        show_memory(self.query_one("#memory", Curve), board.chosen)
        self.query_one(OutputPanel).choose(board.chosen)

    def _show_list(self) -> None:
        board = self.board
        whose = "VMs of all users" if self._everybody else "Your VMs"
        shown = f"{len(board.rows)} of {board.total}" if board.filter else f"{board.total}"
        box = self.query_one("#list")
        height = list_height(self.size.height, len(board.rows), self._is_large)
        box.styles.height = height if board.rows else "1fr"
        title = f"{whose} {shown}" + (f"  with “{visible(board.filter)}”" if board.filter else "")
        box.border_title = Content(title)
        box.border_subtitle = (
            Content(visible(board.snapshot.problem[:100])) if board.snapshot.problem else None
        )
        none, rows = self.query_one("#none", Static), self.query_one(VmRows)
        none.display, rows.display = not board.rows, bool(board.rows)
        self.screen.set_class(not board.rows, "-none")
        if not board.rows:
            none.update(self._why_none())

    def _why_none(self) -> Content:
        board = self.board
        if board.snapshot.is_first:
            return Content.styled("Looking for VMs.", "$dim")
        if board.snapshot.problem:
            return Content.styled(visible(board.snapshot.problem), "$warning")
        if board.total:
            return Content.styled("No VM has these words. Esc shows all.", "$dim")
        lines = [
            Content.styled("No VM runs.\n", "bold"),
            Content.assemble(("vm run-app hello.py", "$primary"), (" starts one. It appears here.", "$dim")),
        ]  # fmt: skip
        if not self._everybody:
            lines.append(Content.styled("The key a shows the VMs of other users.", "$dim"))
        return Content("\n").join(lines)

    # What is done

    def on_vm_head_clicked(self, event: VmHead.Clicked) -> None:
        self.board.sort_by(event.column)
        self._show()

    def on_vm_rows_chosen(self) -> None:
        self._show()

    def on_vm_rows_opened(self) -> None:
        self.screen.add_class("-zoomed")
        self.query_one(OutputView).focus()

    def on_tab_bar_picked(self, event: TabBar.Picked) -> None:
        self.query_one(OutputPanel).pick(event.tab)

    def on_prompt_changed(self, event: Prompt.Changed) -> None:
        if event.kind == "filter":
            self.board.filter_by(event.text)
            self._show()
        else:
            self.query_one(OutputView).search_for(event.text)

    def on_prompt_closed(self) -> None:
        self._target().focus()

    def _target(self) -> VmRows | OutputView:
        searching = self._prompt_is("search") or self.screen.has_class("-zoomed")
        return self.query_one(OutputView) if searching else self.query_one(VmRows)

    def _prompt_is(self, kind: str) -> bool:
        return self.query_one(Prompt)._kind == kind

    def action_help(self) -> None:
        self.push_screen(HelpDialog())

    def action_find(self) -> None:
        in_text = isinstance(self.focused, OutputView)
        before = self.query_one(OutputView).search.term if in_text else self.board.filter
        self.query_one(Prompt).ask("search" if in_text else "filter", before)

    def action_sort(self, step: int) -> None:
        columns = list(Column)
        at = columns.index(self.board.sort)
        self.board.sort_by(columns[(at + step) % len(columns)])
        self._show()

    def action_reverse(self) -> None:
        self.board.sort_by(self.board.sort)
        self._show()

    def action_switch(self) -> None:
        in_text = isinstance(self.focused, OutputView)
        (self.query_one(VmRows) if in_text else self.query_one(OutputView)).focus()

    def action_tab(self, name: str) -> None:
        self.query_one(OutputPanel).pick(Tab[name])

    def action_wrap(self) -> None:
        self.query_one(OutputView).toggle_wrap()

    def action_everybody(self) -> None:
        self._everybody = not self._everybody
        self._source.watch(None if self._everybody else os.getuid())
        self._show()

    def action_clear(self) -> None:
        self.board.clear_ended()
        self._show()

    def action_light(self) -> None:
        self.theme = DARK.name if self.theme == LIGHT.name else LIGHT.name

    def action_leave_text(self) -> None:
        if self.screen.has_class("-zoomed"):
            self.screen.remove_class("-zoomed")
        elif isinstance(self.focused, OutputView):
            if self.query_one(OutputView).search.term:
                self.query_one(OutputView).search_for("")
                return
        elif self.board.filter:
            self.board.filter_by("")
            self._show()
        self.query_one(VmRows).focus()

    def action_stop(self) -> None:
        vm = self.board.chosen
        if vm is None:
            return
        if not vm.is_running:
            self._say(f"VM {vm.cid} does not run.")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                task = asyncio.create_task(self._stop(vm))
                self._stopping.add(task)
                task.add_done_callback(self._stopping.discard)

        self.push_screen(StopDialog(vm.name, vm.cid), answered)

    async def _stop(self, vm: Vm) -> None:
        try:
            await asyncio.to_thread(self._doors.stop, vm.info)
        except (OSError, BinderError, ClientError) as error:
            self._say(f"VM {vm.cid} could not be stopped: {visible(words(error)[:300])}", bad=True)
        else:
            self._say(f"VM {vm.name or vm.cid} was stopped.")

    def action_shell(self) -> None:
        vm = self.board.chosen
        if vm is None or vm.details is None or not vm.is_running:
            self._say("No VM that runs is chosen.")
        elif not vm.details.takes_console_input:
            self._say(f"VM {vm.cid} is not debuggable, so its guest has no shell.")
        else:
            self._lend_terminal(vm)

    def _lend_terminal(self, vm: Vm) -> None:
        try:
            with self.suspend():
                _run_shell(vm, self._doors.shell(vm.info))
        except SuspendNotSupported:
            self._say("This terminal cannot be lent to a shell.", bad=True)

    def _say(self, text: str, *, bad: bool = False) -> None:
        self.notify(text, severity="error" if bad else "information", markup=False)


def list_height(lines: int, rows: int, large: bool) -> int:
    """Lines for the list with its head and frame: as many as it needs, within a third of the screen or a quarter."""
    around, most = (3, lines * 35 // 100) if large else (2, max(6, lines // 4))
    return min(max(rows, 2) + around, most)


def _marks(snapshot: Snapshot) -> object:
    """What differs if anything differs that is worth drawing."""
    return snapshot.problem, snapshot.is_first, [id(vm) for vm in snapshot.vms]


def _run_shell(vm: Vm, command: list[str]) -> None:
    """With the terminal as it was before the view began."""
    print(f"A shell in VM {vm.name or vm.cid}; its end goes back to vm top.", flush=True)
    with _signals_are_for_the_shell():
        status = subprocess.run(command, check=False).returncode
    os.write(sys.stdout.fileno(), _AFTER_SHELL)
    if status:
        print(f"The shell ended with status {status}. Enter goes back to vm top.", flush=True)
        sys.stdin.readline()


@contextmanager
def _signals_are_for_the_shell() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
