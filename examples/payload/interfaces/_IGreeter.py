# Written by avf-aidl: change the .aidl file and run it again.
# Source: com/example/IGreeter.aidl

"""AIDL interface com.example.IGreeter."""

from __future__ import annotations

from abc import abstractmethod

from avf.binder import Interface, method

__all__ = ["IGreeter"]


class IGreeter(Interface, descriptor="com.example.IGreeter"):
    """Served by greeter.py on vsock port 5679."""

    @method(1)
    @abstractmethod
    def greet(self, name: str) -> str:
        raise NotImplementedError

    @method(2, oneway=True)
    @abstractmethod
    def quit(self) -> None:
        """Ends the payload."""
        raise NotImplementedError
