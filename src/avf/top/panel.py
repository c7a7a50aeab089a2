"""The text of the chosen VM: its console, its log, the report of its death."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

from textual import events
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from avf.client import VmInfo
from avf.top.doors import Doors
from avf.top.lines import Lines, visible
from avf.top.model import Vm
from avf.top.output import OutputView
from avf.top.stream import Stream
from avf.top.words import count

_SETTLE_SECONDS = 0.15
"""How long a VM must stay the chosen one before it is listened to."""
_RETRY_SECONDS = 3.0


class Tab(Enum):
    """What can be shown."""

    CONSOLE = "Console"
    LOG = "Log"
    REPORT = "Report"


class TabBar(Widget):
    """The names of the tabs, and at the right how the text stands."""

    class Picked(Message):
        """A tab was clicked."""

        def __init__(self, tab: Tab) -> None:
            super().__init__()
            self.tab = tab

    def __init__(self) -> None:
        super().__init__()
        self._tab = Tab.CONSOLE
        self._status = ""

    def show(self, tab: Tab, status: str) -> None:
        if (tab, status) != (self._tab, self._status):
            self._tab, self._status = tab, status
            self.refresh()

    def render(self) -> Content:
        names = Content(" ").join(_label(tab, chosen=tab is self._tab) for tab in Tab)
        room = self.size.width - names.cell_length - 1
        status = self._status if len(self._status) <= room else ""
        return Content.assemble(names, (status.rjust(room), "$dim"))

    def on_click(self, event: events.Click) -> None:
        at = 0
        for tab in Tab:
            if at <= event.x < at + len(tab.value) + 2:
                self.post_message(self.Picked(tab))
            at += len(tab.value) + 3


def _label(tab: Tab, *, chosen: bool) -> Content:
    """Its name, the key that picks it underlined."""
    look = "bold $background on $primary" if chosen else "$foreground on $panel"
    name = tab.value
    return Content.assemble((" ", look), (name[0], f"{look} underline"), (f"{name[1:]} ", look))


class OutputPanel(Container):
    """Listens to the chosen VM's console and log, and shows one of them or the report."""

    def __init__(self, doors: Doors) -> None:
        super().__init__(id="output")
        self._doors = doors
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="attach")
        self._tab = Tab.CONSOLE
        self._vm: Vm | None = None
        self._streams: dict[Tab, Stream] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._report = Lines()
        self._reported: object = None
        self._shown: object = None

    def compose(self) -> ComposeResult:
        yield TabBar()
        yield OutputView()
        yield Static(id="note", markup=False)

    def on_mount(self) -> None:
        self.set_interval(0.1, self._tick)

    def on_unmount(self) -> None:
        self._leave()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def view(self) -> OutputView:
        return self.query_one(OutputView)

    @property
    def tab(self) -> Tab:
        return self._tab

    def pick(self, tab: Tab) -> None:
        self._tab = tab
        self._tick()

    def choose(self, vm: Vm | None) -> None:
        """The VM to show; the same one again if more is known of it."""
        changed = (vm and vm.info) != (self._vm and self._vm.info)
        self._vm = vm
        if changed:
            self._leave()
            self._streams = {}
            if vm is not None and not vm.gone:
                self._listen(vm.info)
        if changed or (vm and vm.report) != self._reported:
            self._write_report(vm)
        self._tick()

    def _listen(self, info: VmInfo) -> None:
        for tab, attach in ((Tab.CONSOLE, self._doors.console), (Tab.LOG, self._doors.log)):
            task = asyncio.create_task(self._follow(tab, info, attach))
            self._tasks.append(task)

    async def _follow(
        self, tab: Tab, info: VmInfo, attach: Callable[[VmInfo], socket.socket]
    ) -> None:
        """Again and again, since a VM that cannot be listened to now may have room for one who listens later."""
        await asyncio.sleep(_SETTLE_SECONDS)
        while True:
            stream = Stream()
            if tab not in self._streams:
                self._streams[tab] = stream
            await stream.follow(lambda: attach(info), self._threads)
            if stream.attached:
                return
            self._streams[tab].problem = stream.problem
            await asyncio.sleep(_RETRY_SECONDS)
            del self._streams[tab]

    def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def _write_report(self, vm: Vm | None) -> None:
        self._reported = vm.report if vm else None
        self._report = Lines()
        if vm is not None and vm.report is not None:
            text = "\n".join([f"VM ended: {vm.report.reason}", *vm.report.lines()])
            self._report.feed(text.encode(errors="replace"), final=True)

    def _tick(self) -> None:
        """Shows what has changed since the last time, unless the view is being taken apart."""
        if not self.app.is_running:
            return
        lines, version = self._source()
        view = self.view
        if view.lines is not lines:
            view.show(lines, from_the_end=self._tab is not Tab.REPORT)
        elif self._shown != version:
            view.sync()
        self._shown = version
        self._tell()

    def _source(self) -> tuple[Lines, object]:
        if self._tab is Tab.REPORT:
            return self._report, self._report
        stream = self._streams.get(self._tab)
        if stream is None:
            return (self._empty, 0) if self._vm is None else (self._empty, 1)
        return stream.lines, stream.version

    _empty = Lines()

    def _tell(self) -> None:
        view, note = self.view, self.query_one("#note", Static)
        is_empty = not len(view.lines)
        if is_empty:
            note.update(self._why_empty())
        note.display, view.display = is_empty, not is_empty
        self.query_one(TabBar).show(self._tab, "" if is_empty else self._status(view))

    def _status(self, view: OutputView) -> str:
        lines = view.lines
        parts = []
        if view.search.term:
            parts.append(
                f"{count(view.search.count(lines), 'line')} with “{visible(view.search.term)}”"
            )
        if lines.first:
            parts.append(f"{lines.first:,} dropped")
        parts.append(count(len(lines), "line"))
        stream = self._streams.get(self._tab)
        if self._tab is not Tab.REPORT:
            ended = stream is not None and stream.ended
            parts.append("ended" if ended else "following" if view.follows else "G follows")
        return " · ".join(parts)

    def _why_empty(self) -> str:
        vm = self._vm
        if vm is None:
            return ""
        if self._tab is Tab.REPORT:
            return _no_report(vm)
        what = self._tab.value.lower()
        stream = self._streams.get(self._tab)
        if vm.details is not None and not _speaks(vm, self._tab):
            return (
                f"This VM has no {what} to show: its guest is not debuggable, and writes nothing.\n"
                "`vm run-app --debug full` makes one that is debuggable."
            )
        if vm.problem:
            return f"The {what} cannot be read: {vm.problem}"
        if stream is not None and stream.problem:
            return f"The {what} cannot be read: {stream.problem}"
        if vm.gone or (stream is not None and stream.ended):
            left = f"Of its {what} nothing is left but what its report quotes."
            return f"The VM has ended. {left}" if vm.gone else "Nothing was written."
        if stream is not None and stream.attached:
            return f"Nothing was written to the {what} yet."
        return f"Connecting to the {what}."


def _no_report(vm: Vm) -> str:
    if not vm.has_ended:
        return "The VM has not ended. When it has, its report says why."
    return "The VM has gone, and took its report along: its owner let go of it before it could be asked."


def _speaks(vm: Vm, tab: Tab) -> bool:
    assert vm.details is not None
    return vm.details.has_console if tab is Tab.CONSOLE else vm.details.has_log
