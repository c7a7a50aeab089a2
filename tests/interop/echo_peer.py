"""A peer that speaks `avf.test.IEcho`, to be run against foreign implementations of RPC Binder.

    python -m tests.interop.echo_peer serve --unix PATH [--max-threads N]
    python -m tests.interop.echo_peer call --unix PATH [--max-threads N] [--die]

`serve` prints a line when it accepts connections. `call` prints one JSON line per case and exits 1 if one failed;
`--max-threads` tells it how many threads the server has, `--die` has it kill the server at the end.
"""

import argparse
import errno
import json
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from avf.binder import (
    BinderError,
    ExceptionCode,
    FdMode,
    IBinder,
    ParcelFileDescriptor,
    RemoteException,
    Server,
    Session,
    Status,
    StatusError,
    connect,
    dump,
    interface_cast,
    is_alive,
    link_to_death,
    ping,
    release,
    remote_descriptor,
    unix,
    unlink_to_death,
)

from .echo import Echo, IEcho, P, Prims

Case = Callable[["Caller"], None]
CASES: list[Case] = []


def case(function: Case) -> Case:
    CASES.append(function)
    return function


class Caller:
    """What a case gets: a session with descriptors and an incoming connection, its root, and how to open others."""

    def __init__(self, path: str, max_threads: int) -> None:
        self.path = path
        self.max_threads = max_threads
        self.session = self.open(incoming_threads=1)
        self.root = self.session.get_root(IEcho)

    def open(self, fd_mode: FdMode = FdMode.UNIX, **options: Any) -> Session:
        return connect(unix(self.path), fd_mode=fd_mode, timeout=10, **options)


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


def expect_soon(look: Callable[[], object], wanted: object) -> None:
    """For what travels on another connection than the calls that ask for it."""
    deadline = time.monotonic() + 10
    while look() != wanted and time.monotonic() < deadline:
        pass
    expect(look(), wanted)


@contextmanager
def fails(status: int) -> Iterator[None]:
    try:
        yield
    except StatusError as error:
        expect(error.status, int(status))
    else:
        raise AssertionError(f"no failure, {Status(status).name} was expected")


@contextmanager
def throws(code: int, message: str | None = None, service_specific: int = 0) -> Iterator[None]:
    try:
        yield
    except RemoteException as error:
        expect((int(error.code), error.service_specific), (int(code), service_specific))
        if message is not None:
            expect(error.message, message)
    else:
        raise AssertionError(f"no exception, {ExceptionCode(code).name} was expected")


@contextmanager
def pipe_with(data: bytes) -> Iterator[ParcelFileDescriptor]:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    with ParcelFileDescriptor(reading) as fd:
        yield fd


@case
def predefined(caller: Caller) -> None:
    ping(caller.root)
    expect(remote_descriptor(caller.root), "avf.test.IEcho")
    expect(is_alive(caller.root), True)
    expect(caller.session.version, 1)


@case
def echo_string(caller: Caller) -> None:
    for text in ("", "a", "ab", "abc", "abcd", "h\u00e9\U0001f600", "nul\0inside", "x" * 20_000):
        expect(caller.root.echo_string(text), text)
        expect(caller.root.echo_utf8(text), text)


@case
def add_ints(caller: Caller) -> None:
    expect(caller.root.add_ints(2, 3), 5)
    expect(caller.root.add_ints(-2, -3), -5)
    expect(caller.root.add_ints(2**31 - 1, 1), -(2**31))


@case
def echo_bytes(caller: Caller) -> None:
    for size in (0, 1, 2, 3, 4, 5, 1000, 65_536):
        data = bytes(i & 0xFF for i in range(size))
        expect(caller.root.echo_bytes(data), data)


@case
def largest_request(caller: Caller) -> None:
    token = 4 + 2 * len("avf.test.IEcho") + 4
    data = b"x" * (100_000 - 40 - token - 4)
    expect(caller.root.echo_bytes(data), data)
    with fails(Status.FAILED_TRANSACTION):
        caller.root.echo_bytes(data + b"xxxx")
    expect(caller.root.add_ints(1, 1), 2)


@case
def echo_nullable(caller: Caller) -> None:
    expect(caller.root.echo_nullable(None), None)
    expect(caller.root.echo_nullable("x"), "x")


@case
def echo_parcelable(caller: Caller) -> None:
    for value in (P(), P(a=-1, b="opt", c=b"\1\2\3", d=["one", "", "two"])):
        expect(caller.root.echo_parcelable(value), value)


@case
def echo_prims(caller: Caller) -> None:
    values: Prims = (
        True,
        -128,
        "\u20ac",
        -(2**63),
        0.5,
        9.1,
        [-1, 0, 17],
        [True, False],
        ["", "a"],
    )
    expect(caller.root.echo_prims(*values), values)
    empty: Prims = (False, 127, "\0", 2**63 - 1, -0.25, -1e300, [], [], [])
    expect(caller.root.echo_prims(*empty), empty)


@case
def exceptions(caller: Caller) -> None:
    with throws(ExceptionCode.SERVICE_SPECIFIC, "ss", -77):
        caller.root.throw_service_specific(-77, "ss")
    for code in (
        ExceptionCode.SECURITY,
        ExceptionCode.BAD_PARCELABLE,
        ExceptionCode.ILLEGAL_ARGUMENT,
        ExceptionCode.NULL_POINTER,
        ExceptionCode.ILLEGAL_STATE,
        ExceptionCode.UNSUPPORTED_OPERATION,
    ):
        with throws(code, "bad"):
            caller.root.throw_exception(code, "bad")
    expect(caller.root.add_ints(1, 1), 2)


@case
def null_for_non_null(caller: Caller) -> None:
    """It is refused here before it is sent; a server of ours refuses, too, what others send."""
    try:
        caller.root.call_back(None, 1)  # type: ignore[arg-type]
    except TypeError:
        pass
    else:
        raise AssertionError("None was sent for an object")
    try:
        caller.root.return_null()
    except (RemoteException, StatusError) as error:
        found = error.code if isinstance(error, RemoteException) else error.status
        expect(found in (ExceptionCode.ILLEGAL_STATE, Status.UNEXPECTED_NULL), True)
    else:
        raise AssertionError("None was taken for an object")
    expect(caller.root.add_ints(1, 1), 2)


@case
def binder_identity(caller: Caller) -> None:
    mine = Echo()
    expect(caller.root.echo_binder(mine) is mine, True)
    expect(caller.root.echo_binder(None), None)
    expect(caller.root.echo_binder(caller.root), caller.root)
    theirs = caller.root.return_binder()
    expect(caller.root.echo_binder(theirs) is theirs, True)
    expect(theirs == caller.root.return_binder(), False)
    expect(mine.released.wait(10), True)


@case
def remote_object_lifetime(caller: Caller) -> None:
    count = caller.root.count_live_binders
    expect_soon(count, 0)
    binders = [caller.root.return_binder() for _ in range(5)]
    expect(count(), 5)
    expect(interface_cast(IEcho, binders[0]).add_ints(1, 2), 3)
    release(binders.pop())
    expect_soon(count, 4)
    del binders
    expect_soon(count, 0)


@case
def hold(caller: Caller) -> None:
    mine = Echo()
    caller.root.hold_binder(mine)
    expect(caller.root.get_held() is mine, True)
    expect(caller.root.call_held("held"), "held")
    expect(mine.released.is_set(), False)
    caller.root.drop_held()
    expect(mine.released.wait(10), True)
    expect(caller.root.get_held(), None)


@case
def nested(caller: Caller) -> None:
    mine = Echo()
    expect(caller.root.call_back(mine, 10), 10)
    expect(caller.root.nest(mine, 10), 10)
    expect(mine.released.wait(10), True)


@case
def callback_later(caller: Caller) -> None:
    mine = Echo()
    caller.root.oneway_notify(mine, 41)
    expect(mine.wait_notified(1), [42])


@case
def callback_from_another_thread(caller: Caller) -> None:
    mine = Echo()
    caller.root.hold_binder(mine)
    caller.root.call_held_async(5)
    expect(mine.wait_notified(1), [5])
    caller.root.drop_held()


@case
def callback_without_incoming(caller: Caller) -> None:
    with caller.open() as session:
        root = session.get_root(IEcho)
        root.hold_binder(Echo())
        with fails(Status.WOULD_BLOCK):
            root.call_held_async(5)
        expect(root.call_held("nested"), "nested")
        root.drop_held()


@case
def oneway_order(caller: Caller) -> None:
    caller.root.get_appended()
    for i in range(3000):
        caller.root.append(i)
    found: list[int] = []

    def count() -> int:
        found.extend(caller.root.get_appended())
        return len(found)

    expect_soon(count, 3000)
    expect(found, list(range(3000)))


@case
def oneway_does_not_wait(caller: Caller) -> None:
    with caller.open() as session:
        other = session.get_root(IEcho)
        caller.root.oneway_sleep_ms(50)
        expect(other.add_ints(1, 1), 2)


@case
def files(caller: Caller) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"content")
        file.flush()
        with caller.root.open_file(file.name) as fd:
            expect(os.read(fd.fileno(), 100), b"content")
    with throws(ExceptionCode.SERVICE_SPECIFIC, None, errno.ENOENT):
        caller.root.open_file("/nonexistent")
    with pipe_with(b"through a pipe") as fd:
        expect(caller.root.read_fd(fd), "through a pipe")


@case
def many_files(caller: Caller) -> None:
    for count in (0, 1, 2, 253):
        with ExitStack() as stack:
            fds = [stack.enter_context(pipe_with(b"%d," % i)) for i in range(count)]
            expect(caller.root.cat_fds(fds), "".join(f"{i}," for i in range(count)))
    with ExitStack() as stack:
        fds = [stack.enter_context(pipe_with(b"")) for _ in range(254)]
        with fails(Status.BAD_VALUE):
            caller.root.cat_fds(fds)
    expect(caller.root.add_ints(1, 1), 2)


@case
def files_not_allowed(caller: Caller) -> None:
    with caller.open(FdMode.NONE) as session, pipe_with(b"x") as fd:
        root = session.get_root(IEcho)
        with fails(Status.FDS_NOT_ALLOWED):
            root.read_fd(fd)
        with fails(Status.FDS_NOT_ALLOWED):
            root.open_file("/dev/null")
        expect(root.echo_bytes(b"y" * 65_536), b"y" * 65_536)


@case
def dump_to_a_pipe(caller: Caller) -> None:
    with pipe_with(b"") as fd:
        dump(caller.root, fd.fileno(), ["-a", "all"])


@case
def version_0(caller: Caller) -> None:
    with caller.open(FdMode.NONE, max_version=0, incoming_threads=1) as session:
        expect(session.version, 0)
        root = session.get_root(IEcho)
        mine = Echo()
        expect(root.echo_string("v0"), "v0")
        expect(root.call_back(mine, 3), 3)
        root.oneway_notify(mine, 1)
        expect(mine.wait_notified(1), [2])
        with throws(ExceptionCode.SERVICE_SPECIFIC, "ss", 5):
            root.throw_service_specific(5, "ss")


@case
def unknown_transaction(caller: Caller) -> None:
    handle = caller.root._remote
    assert handle is not None
    for code in (1337, 0x00FF_FFFF):
        with fails(Status.UNKNOWN_TRANSACTION):
            handle.remote.transact(handle, code, handle.remote.parcel())


@case
def wrong_token(caller: Caller) -> None:
    handle = caller.root._remote
    assert handle is not None
    parcel = handle.remote.parcel()
    parcel.write_string("avf.test.IOther")
    parcel.data += struct.pack("<ii", 1, 2)
    with fails(Status.BAD_TYPE):
        handle.remote.transact(handle, 2, parcel)


@case
def other_session(caller: Caller) -> None:
    with caller.open() as session:
        other = session.get_root(IEcho)
        with fails(Status.INVALID_OPERATION):
            caller.root.echo_binder(other)
        expect(caller.root.add_ints(1, 1), 2)


@case
def several_sessions(caller: Caller) -> None:
    with ExitStack() as stack:
        for i in range(5):
            session = stack.enter_context(caller.open(incoming_threads=i % 3))
            expect(session.get_root(IEcho).add_ints(i, 1), i + 1)


@case
def parallel_calls(caller: Caller) -> None:
    with caller.open() as session, ThreadPoolExecutor(5) as pool:
        root = session.get_root(IEcho)
        mine = Echo()

        def work(n: int) -> bool:
            return all(
                root.add_ints(n, i) == n + i and root.echo_binder(mine) is mine for i in range(50)
            )

        expect(list(pool.map(work, range(5))), [True] * 5)


@case
def blocked_thread_leaves_others(caller: Caller) -> None:
    if caller.max_threads < 2:
        return
    with caller.open() as session, ThreadPoolExecutor(caller.max_threads) as pool:
        root = session.get_root(IEcho)
        blocked = [pool.submit(root.sleep_ms, 300) for _ in range(caller.max_threads - 1)]
        expect(root.add_ints(1, 1), 2)
        for future in blocked:
            future.result()


@case
def no_incoming_no_death(caller: Caller) -> None:
    with caller.open() as session, fails(Status.INVALID_OPERATION):
        link_to_death(session.get_root(IEcho), lambda: None)


@case
def death_on_close(caller: Caller) -> None:
    session = caller.open(incoming_threads=1)
    root = session.get_root(IEcho)
    told: list[str] = []
    link_to_death(root, lambda: told.append("dead"))

    def unlinked() -> None:
        told.append("unlinked")

    link_to_death(root, unlinked)
    unlink_to_death(root, unlinked)
    session.close()
    expect(told, ["dead"])
    expect(is_alive(root), False)
    with fails(Status.DEAD_OBJECT):
        root.add_ints(1, 1)


@case
def last_proxy_ends_session(caller: Caller) -> None:
    session = caller.open(incoming_threads=1)
    root: IBinder = session.get_root(IEcho)
    release(root)
    expect(session.closed, True)
    session.close()


def die(caller: Caller) -> None:
    dead = threading.Event()
    mine = Echo()
    caller.root.hold_binder(mine)
    link_to_death(caller.root, dead.set)
    caller.root.die()
    expect(dead.wait(10), True)
    expect(mine.released.wait(10), True)
    with fails(Status.DEAD_OBJECT):
        caller.root.add_ints(1, 1)


def call(path: str, max_threads: int, *, kill: bool) -> bool:
    """Runs all cases; whether none failed."""
    caller = Caller(path, max_threads)
    good = True
    with caller.session:
        for run in [*CASES, die] if kill else CASES:
            line: dict[str, object] = {"case": run.__name__, "ok": True}
            try:
                run(caller)
            except (AssertionError, BinderError, OSError, TypeError, ValueError) as error:
                line |= {"ok": False, "error": f"{type(error).__name__}: {error}"}
                good = False
            print(json.dumps(line), flush=True)
    return good


def serve(path: str, max_threads: int) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(50)
    server = Server(Echo(), fd_modes=frozenset({FdMode.NONE, FdMode.UNIX}), max_threads=max_threads)
    print("serving", path, flush=True)
    try:
        server.serve(listener)
    except KeyboardInterrupt:
        pass
    finally:
        server.shutdown()
        Path(path).unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("role", choices=["serve", "call"])
    parser.add_argument("--unix", required=True, metavar="PATH")
    parser.add_argument("--max-threads", type=int, default=1, metavar="N")
    parser.add_argument("--die", action="store_true")
    options = parser.parse_args()
    if options.role == "serve":
        serve(options.unix, options.max_threads)
        return 0
    return 0 if call(options.unix, options.max_threads, kill=options.die) else 1


if __name__ == "__main__":
    sys.exit(main())
