"""What is shown over the view: a question, and help."""

from typing import TypeVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

T = TypeVar("T")

KEYS = (
    ("", "VMs"),
    ("↑ ↓  j k", "choose a VM; also Home, End, Page Up, Page Down"),
    ("Enter", "its text alone on the screen; Esc goes back"),
    ("/", "show only VMs that have these words"),
    ("<  >", "sort by another column, as a click on its name"),
    ("i", "sort the other way round"),
    ("a", "VMs of all users, or only yours"),
    ("C", "take VMs that have ended off the list"),
    ("x  F9", "stop the VM, after a question"),
    ("s", "open a shell inside a debuggable guest"),
    ("", "Text"),
    ("Tab", "from the list to the text, and back"),
    ("c  l  r", "console, log, report of the end"),
    ("↑ ↓  j k", "scroll; g to the first line, G to the last"),
    ("/", "search; n: the next one, N: the one before"),
    ("w", "wrap long lines, or cut them off"),
    ("mouse", "marks text, and Ctrl-C copies it"),
    ("", "All"),
    ("t", "light or dark"),
    ("?  F1", "this help"),
    ("q  F10", "leave"),
)


class Dialog(ModalScreen[T]):
    """Something over the view; Esc closes it."""

    BINDINGS = [Binding("escape", "cancel", show=False)]

    def action_cancel(self) -> None:
        self.dismiss(None)


class StopDialog(Dialog[bool]):
    """Whether a VM is to be killed."""

    BINDINGS = [
        Binding("y", "yes", show=False),
        Binding("n,q", "cancel", show=False),
        Binding("left,right", "app.focus_next", show=False),
    ]

    def __init__(self, name: str, cid: int) -> None:
        super().__init__()
        self._name = name
        self._cid = cid

    def compose(self) -> ComposeResult:
        question = Content.assemble(
            "Stop VM ", (self._name or str(self._cid), "bold"), (f" (CID {self._cid})", "$dim"), "?\n\n",
            ("It is killed at once. Its payload is not asked.", "$dim"),
        )  # fmt: skip
        with Vertical():
            yield Static(question)
            with Horizontal(classes="buttons"):
                yield Button("No", id="no")
                yield Button("Yes, stop", id="yes", variant="error")

    def on_mount(self) -> None:
        self.query_one("#no", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_yes(self) -> None:
        self.dismiss(True)


class HelpDialog(Dialog[None]):
    """All keys."""

    BINDINGS = [Binding("question_mark,f1,q,enter", "cancel", show=False)]

    def compose(self) -> ComposeResult:
        lines = []
        for keys, text in KEYS:
            if keys:
                lines.append(Content.assemble((f"  {keys:<10}", "bold $primary"), text))
            else:
                lines.append(Content.styled(text if not lines else f"\n{text}", "bold"))
        with Vertical(), VerticalScroll():
            yield Static(Content("\n").join(lines))
