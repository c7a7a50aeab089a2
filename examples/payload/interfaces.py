"""The interface between greeter.py in the guest and its callers on the host."""

from avf.binder import Interface, method


class IGreeter(Interface, descriptor="com.example.IGreeter"):
    @method(1)
    def greet(self, name: str) -> str:
        raise NotImplementedError

    @method(2, oneway=True)
    def quit(self) -> None: ...
