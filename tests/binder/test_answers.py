"""What a caller learns of what went wrong at the other side."""

import os
from pathlib import Path

import pytest

from avf.binder import (
    ExceptionCode,
    FdMode,
    IBinder,
    ParcelFileDescriptor,
    RemoteException,
    Status,
    StatusError,
    interface_cast,
)
from avf.binder.errors import with_causes
from tests.interop.echo import Echo, IEcho

from .conftest import Serve


class Odd(ValueError):
    """A subclass of an exception that travels."""


RAISED: dict[str, tuple[BaseException, ExceptionCode, str]] = {
    "permission": (PermissionError("not you"), ExceptionCode.SECURITY, "not you"),
    "value": (ValueError("too long"), ExceptionCode.ILLEGAL_ARGUMENT, "too long"),
    "subclass": (Odd("odd"), ExceptionCode.ILLEGAL_ARGUMENT, "odd"),
    "state": (RuntimeError("not now"), ExceptionCode.ILLEGAL_STATE, "not now"),
    "unsupported": (NotImplementedError("never"), ExceptionCode.UNSUPPORTED_OPERATION, "never"),
    "key": (KeyError("secret"), ExceptionCode.ILLEGAL_STATE,
            "IEcho.echo_string failed with KeyError; the server's log has more"),
    "deep": (RecursionError("secret"), ExceptionCode.ILLEGAL_STATE,
             "IEcho.echo_string failed with RecursionError; the server's log has more"),
    "os": (FileNotFoundError(2, "secret", "/secret"), ExceptionCode.ILLEGAL_STATE,
           "IEcho.echo_string failed with FileNotFoundError; the server's log has more"),
    "system": (PermissionError(13, "Permission denied", "/secret"), ExceptionCode.ILLEGAL_STATE,
               "IEcho.echo_string failed with PermissionError; the server's log has more"),
    "own": (RemoteException.service_specific_error(5, "five"), ExceptionCode.SERVICE_SPECIFIC, "five"),
}  # fmt: skip


class Raising(Echo):
    def echo_string(self, value: str) -> str:
        raise RAISED[value][0]

    def add_ints(self, a: int, b: int) -> int:
        try:
            try:
                raise OSError("no such disk")
            except OSError as error:
                raise KeyError("cache") from error
        except KeyError as error:
            if a:
                raise RemoteException.illegal_state("cannot start") from error
            raise ValueError("cannot start") from None

    def echo_bytes(self, value: bytes) -> bytes:
        return 5  # type: ignore[return-value]


@pytest.mark.parametrize("kind", RAISED)
def test_exceptions_of_methods(serve: Serve, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    raised, code, message = RAISED[kind]
    root = serve(root=Raising()).connect().get_root(IEcho)
    with pytest.raises(RemoteException) as caught:
        root.echo_string(kind)
    assert (caught.value.code, caught.value.message) == (code, message)
    told = capfd.readouterr().err
    assert ("Traceback" in told and type(raised).__name__ in told) == (kind != "own")


def test_causes(serve: Serve) -> None:
    root = serve(root=Raising()).connect().get_root(IEcho)
    with pytest.raises(
        RemoteException, match=r"^ILLEGAL_STATE: cannot start: 'cache': no such disk$"
    ):
        root.add_ints(1, 1)
    with pytest.raises(RemoteException, match=r"^ILLEGAL_ARGUMENT: cannot start$"):
        root.add_ints(0, 1)


def test_causes_are_told_once_and_end() -> None:
    error = RemoteException.illegal_state("cannot start: no such disk")
    error.__cause__ = OSError("no such disk")
    assert with_causes(error) is error
    error.__cause__ = FileNotFoundError(2, "No such file or directory", "/secret")
    assert with_causes(error).message == "cannot start: no such disk: No such file or directory"
    error.__cause__ = OSError("x" * 10_000)
    assert len(with_causes(error).message) == 2000
    error.__cause__ = round_trip = OSError("a")
    round_trip.__cause__ = error
    assert with_causes(error).message == "cannot start: no such disk"


def test_a_result_of_the_wrong_type(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    root = serve(root=Raising()).connect().get_root(IEcho)
    with pytest.raises(
        RemoteException, match=r"ILLEGAL_STATE: IEcho.echo_bytes failed with TypeError"
    ):
        root.echo_bytes(b"")
    assert "IEcho.echo_bytes: result: bytes wanted, not int" in capfd.readouterr().err


def test_calls_to_a_client_that_does_not_listen(serve: Serve) -> None:
    held: list[IEcho] = []

    class Holding(Echo):
        def hold_binder(self, binder: IBinder | None) -> None:
            assert binder is not None
            held.append(interface_cast(IEcho, binder))

    served = serve(root=Holding())
    served.connect(incoming_threads=0).get_root(IEcho).hold_binder(Echo())
    with pytest.raises(StatusError, match=r"^WOULD_BLOCK: IEcho.add_ints: .*incoming_threads=1$"):
        held[0].add_ints(1, 2)
    held.clear()


def test_methods_that_the_other_side_lacks(serve: Serve) -> None:
    class Bare(IEcho):
        pass

    root = serve(root=Bare()).connect().get_root(IEcho)
    with pytest.raises(
        StatusError, match=r"^UNKNOWN_TRANSACTION: IEcho.add_ints.*older version$"
    ) as caught:
        root.add_ints(1, 2)
    assert (caught.value.status, caught.value.method) == (
        Status.UNKNOWN_TRANSACTION,
        "IEcho.add_ints",
    )


def test_descriptors_where_none_can_travel(serve: Serve) -> None:
    root = serve().connect(fd_mode=FdMode.NONE).get_root(IEcho)
    with (
        ParcelFileDescriptor(os.open(Path("/dev/null"), os.O_RDONLY)) as null,
        pytest.raises(StatusError, match=r"^FDS_NOT_ALLOWED: IEcho.read_fd: .*fd_mode=FdMode.UNIX"),
    ):
        root.read_fd(null)


def test_calls_after_the_session(serve: Serve) -> None:
    session = serve().connect()
    root = session.get_root(IEcho)
    session.close()
    with pytest.raises(StatusError, match=r"^DEAD_OBJECT: IEcho.add_ints.*connect again$"):
        root.add_ints(1, 2)
