"""What a server serves: one object, several by name, or what a function makes for each peer."""

import threading
from collections.abc import Callable, Mapping

from .contract import Interface
from .peer import Peer
from .services import Service, Services

Root = Interface | Callable[[Peer], Interface | None] | Mapping[str, Service]


def checked_root(root: Root) -> Interface | Callable[[Peer], Interface | None]:
    """Raises TypeError for what is neither an object to serve nor a function of the peer nor objects by name."""
    # most often; what follows asks abstract classes, which takes longer
    if isinstance(root, Interface):
        return root
    if isinstance(root, Mapping):
        for name, service in root.items():
            if not isinstance(name, str):
                raise TypeError(f"the name of a service is a str, not {type(name).__name__}")
            _check(service)
        return Services(root)
    _check(root)
    return root


def _check(root: object) -> None:
    if isinstance(root, type) and not _takes_peer(root):
        name = root.__name__
        raise TypeError(f"an object to serve wanted, not the class {name}: {name}() makes one")
    if not isinstance(root, Interface) and not callable(root):
        raise TypeError(f"an object of an Interface class wanted, not {type(root).__name__}")


def _takes_peer(root: type) -> bool:
    """Whether a class makes its objects of one argument."""
    import inspect  # slow to import, and hardly ever needed

    try:
        inspect.signature(root).bind(None)
    except TypeError:
        return False
    return True


class SessionRoot:
    """Finds a session's root object once, when the session first asks."""

    def __init__(self, root: Interface | Callable[[Peer], Interface | None], peer: Peer) -> None:
        self._make = root
        self._peer = peer
        self._lock = threading.Lock()
        self._made: list[Interface | None] = []

    def get(self) -> Interface | None:
        with self._lock:
            if not self._made:
                root = self._make
                self._made.append(root if isinstance(root, Interface) else root(self._peer))
            return self._made[0]
