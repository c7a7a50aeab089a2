# Written by avf-aidl: change the .aidl file and run it again.
# Source: com/example/INotebook.aidl

"""For asyncio: AIDL interface com.example.INotebook."""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import AsyncInterface

from ._INotebook import INotebook

__all__ = ["INotebookAsync"]


class INotebookAsync(AsyncInterface[INotebook]):
    """Served by libnotebook.so, a payload in C, on vsock port 5680."""

    @abstractmethod
    async def add(self, note: Note) -> int:
        """Keeps a note; its number. Fails with the service specific error ERROR_FULL if there is no room."""
        raise NotImplementedError

    @abstractmethod
    async def get(self, number: int) -> Note | None:
        """The note with a number, null if there is none."""
        raise NotImplementedError

    @abstractmethod
    async def find(self, text: str) -> list[int]:
        """The numbers of the notes whose title contains `text`."""
        raise NotImplementedError

    @abstractmethod
    async def quit(self) -> None:
        """Ends the payload."""
        raise NotImplementedError


from ._Note import Note  # noqa: E402
