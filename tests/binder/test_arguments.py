"""Wrong arguments of this package's own functions: the error names the argument, in words."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avf.binder import (
    Accessor,
    FdMode,
    Interface,
    Server,
    Session,
    StatusError,
    accessed,
    aio,
    bootstrap,
    connect,
    hybrid_vsock,
    inet,
    interface_cast,
    is_alive,
    link_to_death,
    method,
    ping,
    remote_descriptor,
    unix,
    unix_abstract,
    vsock,
)


class INothing(Interface, descriptor="avftest.INothing"):
    @method(1)
    def nothing(self) -> None:
        raise NotImplementedError


class Nothing(INothing):
    def nothing(self) -> None: ...


any_: Any = lambda value: value  # noqa: E731 - what the type checker would refuse
STR, INT, HALF, NAN = any_("1"), any_(1), any_(1.5), float("nan")
AT = unix("nobody")

CASES: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: unix(INT), TypeError, "path: str or PathLike wanted, not int"),
    (lambda: unix("x", mode=STR), TypeError, "mode: int wanted, not str"),
    (lambda: unix_abstract(INT), TypeError, "name: str or bytes wanted, not int"),
    (lambda: inet(INT, 1), TypeError, "host: str wanted, not int"),
    (lambda: inet("h", STR), TypeError, "port: int wanted, not str"),
    (lambda: inet("h", HALF), TypeError, "port: int wanted, not float"),
    (lambda: inet("h", any_(True)), TypeError, "port: int wanted, not bool"),
    (lambda: inet("h", 1 << 16), ValueError, "port must be from 0 to 65535, not 65536"),
    (lambda: inet("h", 1, tls=any_(True)), TypeError, "tls: SSLContext wanted, not bool"),
    (lambda: vsock(STR), TypeError, "port: int wanted, not str"),
    (lambda: vsock(STR, 1), TypeError, "cid: int wanted, not str"),
    (lambda: vsock(3, -1), ValueError, "port must be from 0 to 4294967295, not -1"),
    (lambda: hybrid_vsock("x", STR), TypeError, "port: int wanted, not str"),
    (lambda: hybrid_vsock(INT, 1), TypeError, "path: str or PathLike wanted, not int"),
    (lambda: bootstrap(INT), TypeError, "sock: socket wanted, not int"),
    (lambda: connect(any_("/x")), TypeError, "an address wanted, not str: unix('/x') makes one"),
    (lambda: connect(any_(Path("/x"))), TypeError, "an address wanted, not PosixPath: unix('/x')"),
    (lambda: connect(any_(None)), TypeError, "an address wanted, not NoneType"),
    (lambda: connect(AT, timeout=STR), TypeError, "timeout: int or float or None wanted, not str"),
    (lambda: connect(AT, timeout=NAN), ValueError, "timeout must be a number of seconds, not nan"),
    (lambda: connect(AT, frame_timeout=STR), TypeError, "frame_timeout: int or float or None"),
    (lambda: connect(AT, incoming_threads=STR), TypeError, "incoming_threads: int wanted, not str"),
    (lambda: connect(AT, incoming_threads=-1), ValueError, "incoming_threads must be at least 0"),
    (lambda: connect(AT, max_outgoing=0), ValueError, "max_outgoing must be at least 1, not 0"),
    (lambda: connect(AT, fd_mode=any_("unix")), TypeError, "fd_mode: FdMode wanted, not str"),
    (lambda: connect(AT, max_version=STR), TypeError, "max_version: int wanted, not str"),
    (lambda: Server(Nothing(), max_threads=STR), TypeError, "max_threads: int wanted, not str"),
    (
        lambda: Server(Nothing(), fd_modes=any_(FdMode.UNIX)),
        TypeError,
        "fd_modes: frozenset or set wanted, not FdMode",
    ),
    (
        lambda: Server(Nothing(), fd_modes=any_({1})),
        TypeError,
        "fd_modes: FdMode wanted, not int",
    ),
    (lambda: Server(Nothing(), budget=INT), TypeError, "budget: Budget or None wanted, not int"),
    (lambda: Server(Nothing(), frame_timeout=STR), TypeError, "frame_timeout: int or float"),
    (lambda: Server(Nothing()).shutdown(STR), TypeError, "grace: int or float wanted, not str"),
    (lambda: Accessor(INT, AT), TypeError, "name: str wanted, not int"),
    (lambda: Accessor("x", any_("y")), TypeError, "an address wanted, not str: unix('y') makes"),
    (lambda: accessed(INT), TypeError, "accessor: IAccessor wanted, not int"),
    (lambda: ping(INT), TypeError, "binder: IBinder wanted, not int"),
    (lambda: is_alive(INT), TypeError, "binder: IBinder wanted, not int"),
    (lambda: remote_descriptor(INT), TypeError, "binder: IBinder wanted, not int"),
    (lambda: link_to_death(INT, print), TypeError, "binder: IBinder wanted, not int"),
    (lambda: interface_cast(INothing, INT), TypeError, "binder: IBinder wanted, not int"),
    (lambda: aio.binder(INT), TypeError, "binder: AsyncInterface wanted, not int"),
    (lambda: aio.proxy(INT), TypeError, "binder: Interface wanted, not int"),
    (lambda: aio.Server(Nothing(), max_threads=STR), TypeError, "max_threads: int wanted"),
    (lambda: asyncio.run(aio.connect(any_("/x"))), TypeError, "an address wanted, not str"),
]


@pytest.mark.parametrize(
    ("call", "kind", "message"), CASES, ids=[f"{n}: {case[2]}" for n, case in enumerate(CASES)]
)
def test_the_argument_is_named(
    call: Callable[[], object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Server(Nothing()) as server, connect(server.start(unix(tmp_path / "s"))) as session:
        yield session


def test_a_recipient_is_a_function(session: Session) -> None:
    nothing = session.get_root(INothing)
    with pytest.raises(TypeError, match="recipient: a function wanted, not int"):
        link_to_death(nothing, INT)
    with pytest.raises(StatusError, match="notices no death"):
        link_to_death(nothing, print)


def test_a_deadline_that_has_passed_is_a_timeout(tmp_path: Path) -> None:
    with (
        Server(Nothing()) as server,
        pytest.raises(TimeoutError),
    ):
        connect(server.start(unix(tmp_path / "s")), timeout=-1)
