"""Binder objects: what is local, what is remote, and what a remote one is held by."""

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from .errors import DeadObjectError, Status, StatusError, report
from .oneway import OnewayOrder
from .wanted import check_type
from .wire import Stability


class Remote(Protocol):
    """The session end a handle belongs to, as its proxies see it. Methods and parcels are of higher modules."""

    @property
    def ended(self) -> bool: ...

    def call(self, handle: "Handle", method: Any, args: tuple[Any, ...]) -> Any: ...

    def begin(self, handle: "Handle", method: Any, args: tuple[Any, ...], kind: Any) -> Any: ...

    def parcel(self) -> Any: ...

    def transact(self, handle: "Handle | None", code: int, parcel: Any) -> Any: ...

    def release(self, handle: "Handle") -> None: ...

    def link_to_death(self, handle: "Handle", recipient: Callable[[], None]) -> None: ...

    def unlink_to_death(self, handle: "Handle", recipient: Callable[[], None]) -> bool: ...


if TYPE_CHECKING:
    _I = TypeVar("_I", bound="IBinder")
    _I_co = TypeVar("_I_co", bound="IBinder", covariant=True)
else:
    _I, _I_co = TypeVar("_I"), TypeVar("_I_co", covariant=True)
    """Without bounds: `typing` has Python's compiler look at one that is a string, which costs a guest its loading."""


class BinderClass(Protocol[_I_co]):
    """A class of binder objects: IBinder or an interface, whose abstract methods its proxies have."""

    def _proxy_class(self) -> "type[_I_co]": ...


class Handle:
    """One remote object of one session. While it is open the peer keeps the object; it closes with its last proxy."""

    __slots__ = ("__weakref__", "closed", "node", "proxies", "recipients", "remote", "stability")

    def __init__(self, remote: Remote, node: "Node", stability: int) -> None:
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
    _contract: ClassVar[Any] = None
    """The `Contract` of an interface."""
    _stability: ClassVar[Stability] = Stability.SYSTEM

    @classmethod
    def _proxy_class(cls: type[_I]) -> type[_I]:
        return cls

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


class Node:
    """One object of a session, ours (`local`) or the peer's (`handle`)."""

    __slots__ = (
        "__weakref__",
        "address",
        "async_out",
        "handle",
        "hold",
        "links",
        "local",
        "oneway",
        "times_received",
        "times_sent",
    )

    def __init__(self, address: int) -> None:
        self.address = address
        self.local: IBinder | None = None
        self.handle: weakref.ref[Handle] | None = None
        self.hold: Handle | None = None
        """Keeps the handle while the peer has not returned what was sent."""
        self.links = 0
        """Death recipients of the handle."""
        self.times_sent = 0
        self.times_received = 0
        self.async_out = 0
        """The number of our next oneway call."""
        self.oneway: OnewayOrder[Any] | None = None
        """The peer's oneway calls, once there have been some."""


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


def cast(interface: BinderClass[_I], binder: IBinder) -> _I:
    """`binder` with the methods of `interface`. Raises BAD_TYPE for a local object of another class."""
    wanted: type[_I] = binder_class(interface)
    check_type("binder", binder, IBinder)
    if isinstance(binder, wanted):
        return binder
    if binder._remote is None:
        raise StatusError(Status.BAD_TYPE, f"{type(binder).__name__} is no {wanted.__name__}")
    return binder._remote.proxy(wanted)


def binder_class(interface: object) -> Any:
    """The class it has to be. Raises TypeError."""
    if isinstance(interface, type) and issubclass(interface, IBinder):
        return interface
    raise TypeError(f"a class of binder objects wanted, not {interface!r}")
