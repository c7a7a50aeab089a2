"""Binder objects: what is local, what is remote, and what a remote one is held by."""

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from .errors import DeadObjectError

if TYPE_CHECKING:
    from .contract import Contract, Method
    from .parcel import Parcel, ParcelReader
    from .refs import Node

_I = TypeVar("_I", bound="IBinder")


class Remote(Protocol):
    """The session end a handle belongs to, as its proxies see it."""

    @property
    def ended(self) -> bool: ...

    def call(self, handle: "Handle", method: "Method", args: tuple[Any, ...]) -> Any: ...

    def parcel(self) -> "Parcel": ...

    def transact(self, handle: "Handle | None", code: int, parcel: "Parcel") -> "ParcelReader": ...

    def release(self, handle: "Handle") -> None: ...

    def link_to_death(self, handle: "Handle", recipient: Callable[[], None]) -> None: ...


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

    def check_open(self) -> None:
        if self.closed:
            raise DeadObjectError("the proxy's reference was released")


class IBinder:
    """Any binder object, local or remote. Proxies of one remote object are equal."""

    _remote: Handle | None = None
    _holds: int = 0
    """Sessions in which a peer holds this local object."""
    _contract: ClassVar["Contract | None"] = None

    @classmethod
    def _proxy_class(cls: type[_I]) -> type[_I]:
        return cls

    def on_released(self) -> None:
        """Called on a local object when the last remote reference to it, over all sessions, has gone."""

    def __eq__(self, other: object) -> bool:
        if self._remote is None or not isinstance(other, IBinder):
            return self is other
        return self._remote is other._remote

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
