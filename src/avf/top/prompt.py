"""One line to type into: what to filter by, or to search for."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.message import Message
from textual.widgets import Input, Label


class Prompt(Container):
    """Closed until it is asked for something. Every change is told; Esc takes the text back, Enter leaves it."""

    BINDINGS = [Binding("escape", "close(True)", show=False)]

    class Changed(Message):
        """The text is another one."""

        def __init__(self, kind: str, text: str) -> None:
            super().__init__()
            self.kind = kind
            self.text = text

    class Closed(Message):
        """Whoever had the focus before gets it back."""

    def __init__(self) -> None:
        super().__init__()
        self._kind = ""

    def compose(self) -> ComposeResult:
        yield Label("", markup=False)
        yield Input(compact=True)

    def ask(self, kind: str, text: str) -> None:
        """`kind`: `filter` or `search`; `text`: what there is already."""
        self._kind = kind
        self.query_one(Label).update(f"{kind}:")
        self.add_class("-open")
        field = self.query_one(Input)
        with field.prevent(Input.Changed):
            field.value = text
        field.cursor_position = len(text)
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._kind:
            self.post_message(self.Changed(self._kind, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_close(False)

    def action_close(self, forget: bool) -> None:
        if forget:
            self.post_message(self.Changed(self._kind, ""))
        self.remove_class("-open")
        self.post_message(self.Closed())
