"""Package com.example."""

# Written by avf-aidl from .aidl files: change those and run it again.

from avf.binder import Interface, Parcelable, method

__all__ = ["ERROR_FULL", "IGreeter", "INotebook", "Note"]

ERROR_FULL = 1
"""The error of `add` when the notebook is full."""


class Note(Parcelable, descriptor="com.example.Note"):
    """What a notebook keeps."""

    title: str = ""
    body: bytes = b""


class IGreeter(Interface, descriptor="com.example.IGreeter"):
    """Served by greeter.py on vsock port 5679."""

    @method(1)
    def greet(self, name: str) -> str:
        raise NotImplementedError

    @method(2, oneway=True)
    def quit(self) -> None:
        """Ends the payload."""


class INotebook(Interface, descriptor="com.example.INotebook"):
    """Served by libnotebook.so, a payload in C, on vsock port 5680."""

    @method(1)
    def add(self, note: Note) -> int:
        """Keeps a note; its number. Fails with the service specific error ERROR_FULL if there is no room."""
        raise NotImplementedError

    @method(2)
    def get(self, number: int) -> Note | None:
        """The note with a number, null if there is none."""
        raise NotImplementedError

    @method(3)
    def find(self, text: str) -> list[int]:
        """The numbers of the notes whose title contains `text`."""
        raise NotImplementedError

    @method(4, oneway=True)
    def quit(self) -> None:
        """Ends the payload."""
