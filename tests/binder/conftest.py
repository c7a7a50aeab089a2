"""What binder tests share: servers on real sockets, and a look at what is left behind."""

import gc
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from avf.binder import FdMode, Server, Session, connect, unix
from tests.eventually import eventually
from tests.interop.echo import Echo

BOTH_MODES = frozenset({FdMode.NONE, FdMode.UNIX})

Connect = Callable[..., Session]


def open_descriptors() -> set[str]:
    return {
        f"{path.name} {path.readlink()}"
        for path in list(Path("/proc/self/fd").iterdir())
        if path.is_symlink()
    }


def binder_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("binder")]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test of this folder leaves a descriptor or a binder thread behind."""
    before = open_descriptors()
    yield
    nothing: list[str] = []
    eventually(binder_threads, nothing)
    gc.collect()
    eventually(lambda: sorted(open_descriptors() - before), nothing)


class Served:
    """A server of an Echo at a unix socket."""

    def __init__(self, path: Path, stack: ExitStack, **options: Any) -> None:
        self.path = path
        self.echo = Echo()
        self.server = Server(options.pop("root", self.echo), **{"fd_modes": BOTH_MODES} | options)
        self._stack = stack
        self.server.start(listening(path))
        stack.callback(self.server.shutdown)

    def connect(self, fd_mode: FdMode = FdMode.UNIX, **options: Any) -> Session:
        session = connect(unix(self.path), fd_mode=fd_mode, timeout=10, **options)
        self._stack.callback(session.close)
        return session

    def raw(self) -> socket.socket:
        """A bare connection."""
        sock = socket.socket(socket.AF_UNIX)
        self._stack.enter_context(sock)
        sock.connect(str(self.path))
        sock.settimeout(10)
        return sock


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(50)
    return listener


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Makes servers, and shuts them down in the end."""
    with ExitStack() as stack:
        count = iter(range(100))

        def make(**options: Any) -> Served:
            return Served(tmp_path / f"{next(count)}.sock", stack, **options)

        yield make
