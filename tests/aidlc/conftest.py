"""Generated modules to import, and an object of theirs behind a real socket."""

import importlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from avf.aidlc.main import main
from avf.binder import FdMode, Interface, Server, connect, unix

HERE = Path(__file__).parent
IDL = HERE / "idl"

Load = Callable[..., Any]


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory on the import path with what avf-aidl makes of the files in idl/."""
    directory = tmp_path_factory.mktemp("generated")
    native = "avftest.kinds.Native=tests.aidlc.native.Native"
    assert main(["-o", str(directory), "--type", native, str(IDL)]) == 0
    sys.path.insert(0, str(directory))
    yield directory
    sys.path.remove(str(directory))
    for name in [name for name in sys.modules if name.split(".")[0] == "avftest"]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def kinds(generated: Path) -> Any:
    """The module avftest.kinds."""
    return importlib.import_module("avftest.kinds")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Interface, type[Interface]], Any]]:
    """Serves an object at a unix socket; gives a proxy of it."""
    with ExitStack() as stack:

        def serve(root: Interface, interface: type[Interface]) -> Any:
            server = Server(root, fd_modes=frozenset({FdMode.UNIX}))
            listener = socket.socket(socket.AF_UNIX)
            path = tmp_path / "socket"
            listener.bind(os.fspath(path))
            listener.listen()
            server.start(listener)
            stack.callback(server.shutdown)
            session = connect(unix(path), fd_mode=FdMode.UNIX, incoming_threads=1, timeout=10)
            stack.callback(session.close)
            return session.get_root(interface)

        yield serve
