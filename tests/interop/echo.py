"""`avf.test.IEcho`, an interface that uses everything RPC Binder has, and an object that implements it."""

import os
import threading
import time
import weakref

from avf.binder import (
    Byte,
    Char,
    Float,
    IBinder,
    Interface,
    Long,
    Parcelable,
    ParcelFileDescriptor,
    RemoteException,
    StatusError,
    interface_cast,
    method,
)

_MAX_SLEEP_MS = 10_000

Prims = tuple[bool, Byte, Char, Long, Float, float, list[int], list[bool], list[str]]


class P(Parcelable):
    a: int = 0
    b: str | None = None
    c: bytes = b""
    d: list[str] = []  # noqa: RUF012 - copied per instance


class IEcho(Interface, descriptor="avf.test.IEcho"):
    @method(1)
    def echo_string(self, value: str) -> str:
        raise NotImplementedError

    @method(2)
    def add_ints(self, a: int, b: int) -> int:
        raise NotImplementedError

    @method(3)
    def echo_bytes(self, value: bytes) -> bytes:
        raise NotImplementedError

    @method(4)
    def return_binder(self) -> IBinder:
        raise NotImplementedError

    @method(5)
    def call_back(self, cb: IBinder, n: int) -> int:
        raise NotImplementedError

    @method(6, oneway=True)
    def oneway_notify(self, cb: IBinder, v: int) -> None:
        raise NotImplementedError

    @method(7)
    def open_file(self, path: str) -> ParcelFileDescriptor:
        raise NotImplementedError

    @method(8)
    def read_fd(self, fd: ParcelFileDescriptor) -> str:
        raise NotImplementedError

    @method(9)
    def throw_service_specific(self, code: int, message: str) -> None:
        raise NotImplementedError

    @method(10)
    def throw_exception(self, code: int, message: str) -> None:
        raise NotImplementedError

    @method(11)
    def hold_binder(self, binder: IBinder | None) -> None:
        raise NotImplementedError

    @method(12)
    def drop_held(self) -> None:
        raise NotImplementedError

    @method(13)
    def count_live_binders(self) -> int:
        raise NotImplementedError

    @method(14)
    def echo_parcelable(self, value: P) -> P:
        raise NotImplementedError

    @method(15, oneway=True)
    def on_notify(self, v: int) -> None:
        raise NotImplementedError

    @method(16)
    def echo_binder(self, binder: IBinder | None) -> IBinder | None:
        raise NotImplementedError

    @method(17)
    def echo_nullable(self, value: str | None) -> str | None:
        raise NotImplementedError

    @method(18)
    def get_held(self) -> IBinder | None:
        raise NotImplementedError

    @method(19, oneway=True)
    def append(self, v: int) -> None:
        raise NotImplementedError

    @method(20)
    def get_appended(self) -> list[int]:
        raise NotImplementedError

    @method(21)
    def sleep_ms(self, ms: int) -> None:
        raise NotImplementedError

    @method(22)
    def cat_fds(self, fds: list[ParcelFileDescriptor]) -> str:
        raise NotImplementedError

    @method(23)
    def call_held(self, value: str) -> str:
        raise NotImplementedError

    @method(24)
    def call_held_async(self, v: int) -> None:
        raise NotImplementedError

    @method(25)
    def nest(self, other: IBinder, depth: int) -> int:
        raise NotImplementedError

    @method(26, oneway=True)
    def oneway_sleep_ms(self, ms: int) -> None:
        raise NotImplementedError

    @method(27)
    def return_null(self) -> IBinder:
        raise NotImplementedError

    @method(28)
    def echo_utf8(self, value: str) -> str:
        raise NotImplementedError

    @method(29)
    def echo_prims(
        self,
        z: bool,
        b: Byte,
        c: Char,
        j: Long,
        f: Float,
        d: float,
        ints: list[int],
        bools: list[bool],
        strings: list[str],
    ) -> Prims:
        raise NotImplementedError

    @method(30, oneway=True)
    def die(self) -> None:
        raise NotImplementedError


class Echo(IEcho):
    """Implements IEcho; `notified` collects what `on_notify` was called with."""

    def __init__(self) -> None:
        self.held: IBinder | None = None
        self.made: weakref.WeakSet[Echo] = weakref.WeakSet()
        self.appended: list[int] = []
        self.notified: list[int] = []
        self.changed = threading.Condition()
        self.released = threading.Event()

    def on_released(self) -> None:
        self.released.set()

    def wait_notified(self, count: int, timeout: float = 10.0) -> list[int]:
        with self.changed:
            self.changed.wait_for(lambda: len(self.notified) >= count, timeout)
            return list(self.notified)

    def echo_string(self, value: str) -> str:
        return value

    def add_ints(self, a: int, b: int) -> int:
        return (a + b + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000

    def echo_bytes(self, value: bytes) -> bytes:
        return value

    def return_binder(self) -> IBinder:
        made = Echo()
        self.made.add(made)
        return made

    def call_back(self, cb: IBinder, n: int) -> int:
        echo = interface_cast(IEcho, cb)
        return sum(echo.echo_string(f"cb{i}") == f"cb{i}" for i in range(n))

    def oneway_notify(self, cb: IBinder, v: int) -> None:
        echo = interface_cast(IEcho, cb)

        def notify() -> None:
            try:
                echo.on_notify(v + 1)
            except StatusError:
                pass  # nobody is left to be told

        threading.Timer(0.02, notify).start()

    def open_file(self, path: str) -> ParcelFileDescriptor:
        try:
            return ParcelFileDescriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise RemoteException.service_specific_error(error.errno or 0, str(error)) from error

    def read_fd(self, fd: ParcelFileDescriptor) -> str:
        return _read_all(fd)

    def throw_service_specific(self, code: int, message: str) -> None:
        raise RemoteException.service_specific_error(code, message)

    def throw_exception(self, code: int, message: str) -> None:
        raise RemoteException(code, message)

    def hold_binder(self, binder: IBinder | None) -> None:
        self.held = binder

    def drop_held(self) -> None:
        self.held = None

    def count_live_binders(self) -> int:
        return len(self.made)

    def echo_parcelable(self, value: P) -> P:
        return value

    def on_notify(self, v: int) -> None:
        with self.changed:
            self.notified.append(v)
            self.changed.notify_all()

    def echo_binder(self, binder: IBinder | None) -> IBinder | None:
        return binder

    def echo_nullable(self, value: str | None) -> str | None:
        return value

    def get_held(self) -> IBinder | None:
        return self.held

    def append(self, v: int) -> None:
        self.appended.append(v)

    def get_appended(self) -> list[int]:
        appended, self.appended = self.appended, []
        return appended

    def sleep_ms(self, ms: int) -> None:
        time.sleep(_seconds(ms))

    def cat_fds(self, fds: list[ParcelFileDescriptor]) -> str:
        return "".join(_read_all(fd) for fd in fds)

    def call_held(self, value: str) -> str:
        return interface_cast(IEcho, self._held()).echo_string(value)

    def call_held_async(self, v: int) -> None:
        held = interface_cast(IEcho, self._held())
        failures: list[int] = []

        def call() -> None:
            try:
                held.on_notify(v)
            except StatusError as error:
                failures.append(error.status)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        if failures:
            raise StatusError(failures[0])

    def _held(self) -> IBinder:
        if self.held is None:
            raise RemoteException.illegal_state("nothing is held")
        return self.held

    def nest(self, other: IBinder, depth: int) -> int:
        if depth <= 0:
            return 0
        return interface_cast(IEcho, other).nest(self, depth - 1) + 1

    def oneway_sleep_ms(self, ms: int) -> None:
        time.sleep(_seconds(ms))

    def return_null(self) -> IBinder:
        return None  # type: ignore[return-value]

    def echo_utf8(self, value: str) -> str:
        return value

    def echo_prims(
        self,
        z: bool,
        b: Byte,
        c: Char,
        j: Long,
        f: Float,
        d: float,
        ints: list[int],
        bools: list[bool],
        strings: list[str],
    ) -> Prims:
        return z, b, c, j, f, d, ints, bools, strings

    def die(self) -> None:
        os._exit(7)


def _seconds(ms: int) -> float:
    """Capped: a hostile peer must not hold a thread for weeks, nor make `time.sleep` raise."""
    return min(max(ms, 0), _MAX_SLEEP_MS) / 1000


def _read_all(fd: ParcelFileDescriptor) -> str:
    data = b""
    while piece := os.read(fd.fileno(), 65536):
        data += piece
    return data.decode()
