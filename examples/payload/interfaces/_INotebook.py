# Written by avf-aidl: change the .aidl file and run it again.
# Source: com/example/INotebook.aidl

"""AIDL interface com.example.INotebook."""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import Interface, method

__all__ = ["INotebook"]


class INotebook(Interface, descriptor="com.example.INotebook"):
    """Served by libnotebook.so, a payload in C, on vsock port 5680."""

    ERROR_FULL = 1
    """The error of `add` when the notebook is full."""

    @method(1)
    @abstractmethod
    def add(self, note: Note) -> int:
        """Keeps a note; its number. Fails with the service specific error ERROR_FULL if there is no room."""
        raise NotImplementedError

    @method(2)
    @abstractmethod
    def get(self, number: int) -> Note | None:
        """The note with a number, null if there is none."""
        raise NotImplementedError

    @method(3)
    @abstractmethod
    def find(self, text: str) -> list[int]:
        """The numbers of the notes whose title contains `text`."""
        raise NotImplementedError

    @method(4, oneway=True)
    @abstractmethod
    def quit(self) -> None:
        """Ends the payload."""
        raise NotImplementedError


from ._Note import Note  # noqa: E402
