"""Binder objects: what is local, what is remote, and what a remote one is held by."""

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .codecs import Codec, Reader, Writer
from .errors import DeadObjectError, Status, StatusError, report
from .parcel import Parcel, ParcelReader
from .wire import Stability

if TYPE_CHECKING:
    from typing import Protocol

    from .contract import Contract, Method
    from .refs import Node

    class Remote(Protocol):
        """The session end a handle belongs to, as its proxies see it."""

        @property
        def ended(self) -> bool: ...

        def call(self, handle: "Handle", method: "Method", args: tuple[Any, ...]) -> Any: ...

        def parcel(self) -> "Parcel": ...

        def transact(
            self, handle: "Handle | None", code: int, parcel: "Parcel"
        ) -> "ParcelReader": ...

        def release(self, handle: "Handle") -> None: ...

        def link_to_death(self, handle: "Handle", recipient: Callable[[], None]) -> None: ...

        def unlink_to_death(self, handle: "Handle", recipient: Callable[[], None]) -> bool: ...


_I = TypeVar("_I", bound="IBinder")


class Handle:
    """One remote object of one session. While it is open the peer keeps the object; it closes with its last proxy."""

    __slots__ = ("__weakref__", "closed", "node", "proxies", "recipients", "remote", "stability")

    def __init__(self, remote: "Remote", node: "Node", stability: int) -> None:
        self.remote = remote
        self.node = node
        self.stability = stability
        self.closed = False
        self.proxies: dict[type[IBinder], weakref.ref[IBinder]] = {}
        self.recipients: list[Callable[[], None]] = []

    def proxy(self, interface: type[_I]) -> _I:
        """The proxy of this object that has `interface`'s methods, always the same one."""
        known = self.proxies.get(interface)
        found = known() if known is not None else None
        if found is None:
            made = object.__new__(interface._proxy_class())
            made._remote = self
            self.proxies[interface] = weakref.ref(made)
            return made
        return found  # type: ignore[return-value]

    def __str__(self) -> str:
        return f"{'released' if self.closed else 'for'} object {self.node.address:#x}"

    def check_open(self) -> None:
        if self.closed:
            raise DeadObjectError("the proxy's reference was released")


class IBinder:
    """Any binder object, local or remote. Proxies of one remote object are equal."""

    _remote: Handle | None = None
    _holds: int = 0
    """Sessions in which a peer holds this local object."""
    _contract: ClassVar["Contract | None"] = None
    _stability: ClassVar[Stability] = Stability.SYSTEM

    @classmethod
    def _proxy_class(cls: type[_I]) -> type[_I]:
        return cls

    @classmethod
    def _binder_codec(cls) -> Codec:
        write, read_nullable = _functions(cls)

        def read(reader: ParcelReader) -> Any:
            value = read_nullable(reader)
            if value is None:
                raise StatusError(Status.UNEXPECTED_NULL, cls.__name__)
            return value

        return Codec(write, read, lambda: None, (write, read_nullable))

    def on_released(self) -> None:
        """Called on a local object when the last remote reference to it, over all sessions, has gone.

        So it is for a method's result that cannot be sent, because the session has ended meanwhile.
        """

    def __eq__(self, other: object) -> bool:
        if self._remote is None or not isinstance(other, IBinder):
            return self is other
        return self._remote is other._remote

    def __repr__(self) -> str:
        where = f"at {id(self):#x}" if self._remote is None else str(self._remote)
        return f"<{type(self).__name__} {where}>"

    def __hash__(self) -> int:
        return id(self if self._remote is None else self._remote)


_holds_lock = threading.Lock()


def hold(binder: IBinder) -> None:
    """Counts one more session whose peer holds a local object."""
    with _holds_lock:
        binder._holds += 1


def let_go(binder: IBinder) -> bool:
    """Counts one session less; True if it was the last."""
    with _holds_lock:
        binder._holds -= 1
        return binder._holds == 0


def abandon(result: object) -> None:
    """Tells a local object that was to be returned, but has not reached the caller, that nobody holds it."""
    if isinstance(result, IBinder) and result._remote is None and not result._holds:
        try:
            result.on_released()
        except Exception as error:  # noqa: BLE001 - nobody else could catch it
            report(error)


def cast(interface: type[_I], binder: IBinder) -> _I:
    """`binder` with the methods of `interface`. Raises BAD_TYPE for a local object of another class."""
    if isinstance(binder, interface):
        return binder
    if binder._remote is None:
        raise StatusError(Status.BAD_TYPE, f"{type(binder).__name__} is no {interface.__name__}")
    return binder._remote.proxy(interface)


def _functions(interface: type[IBinder]) -> tuple[Writer, Reader]:
    """How a binder argument is written and read, null allowed: refusing null is the reading side's part."""

    def write(parcel: Parcel, value: Any) -> None:
        if value is not None and not isinstance(value, interface):
            known = isinstance(value, IBinder) and value._remote is not None
            if not known:
                raise TypeError(f"{interface.__name__} wanted, not {type(value).__name__}")
        parcel.write_binder(value)

    def read(reader: ParcelReader) -> Any:
        binder = reader.read_binder()
        return None if binder is None else cast(interface, binder)

    return write, read
