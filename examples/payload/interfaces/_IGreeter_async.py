# Written by avf-aidl: change the .aidl file and run it again.
# Source: com/example/IGreeter.aidl

"""For asyncio: AIDL interface com.example.IGreeter."""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import AsyncInterface

from ._IGreeter import IGreeter

__all__ = ["IGreeterAsync"]


class IGreeterAsync(AsyncInterface[IGreeter]):
    """Served by greeter.py on vsock port 5679."""

    @abstractmethod
    async def greet(self, name: str) -> str:
        raise NotImplementedError

    @abstractmethod
    async def quit(self) -> None:
        """Ends the payload."""
        raise NotImplementedError
