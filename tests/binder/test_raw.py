"""An object that gets its calls as bytes, called through a contract by an ordinary client."""

import os
from pathlib import Path

import pytest

from avf.binder import (
    ExceptionCode,
    Interface,
    Parcel,
    ParcelFileDescriptor,
    RawService,
    RemoteException,
    Status,
    StatusError,
    method,
    ping,
    remote_descriptor,
)
from tests.binder.conftest import Serve
from tests.eventually import eventually

OK = bytes(4)


class IText(Interface, descriptor="test.IText"):
    @method(1)
    def echo(self, text: str) -> str:
        raise NotImplementedError

    @method(2, oneway=True)
    def keep(self, text: str) -> None: ...

    @method(3)
    def fail(self) -> None: ...

    @method(4)
    def refuse(self) -> None: ...

    @method(5)
    def take(self, file: ParcelFileDescriptor) -> None: ...

    @method(6)
    def later(self) -> None: ...


class IOther(Interface, descriptor="test.IOther"):
    @method(1)
    def echo(self, text: str) -> str:
        raise NotImplementedError


class Text(RawService, descriptor="test.IText"):
    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []

    def transact(self, code: int, arguments: bytes) -> bytes:
        self.heard.append((code, arguments))
        if code == 3:
            raise RemoteException.illegal_state("not now")
        if code == 4:
            raise StatusError(Status.NAME_NOT_FOUND)
        if code == 6:
            return super().transact(code, arguments)
        return OK + arguments


def string(text: str) -> bytes:
    parcel = Parcel()
    parcel.write_string(text)
    return parcel.payload()


def test_calls_as_bytes(serve: Serve) -> None:
    root = Text()
    text = serve(root=root).connect().get_root(IText)
    assert text.echo("a word") == "a word"
    text.keep("another")
    eventually(lambda: root.heard, [(1, string("a word")), (2, string("another"))])


def test_errors(serve: Serve) -> None:
    text = serve(root=Text()).connect().get_root(IText)
    with pytest.raises(RemoteException) as exception:
        text.fail()
    assert exception.value.code is ExceptionCode.ILLEGAL_STATE
    for call, status in (
        (text.refuse, Status.NAME_NOT_FOUND),
        (text.later, Status.UNKNOWN_TRANSACTION),
    ):
        with pytest.raises(StatusError) as caught:
            call()
        assert caught.value.status == status


def test_a_caller_of_another_interface_is_not_heard(serve: Serve) -> None:
    root = Text()
    with pytest.raises(StatusError) as caught:
        serve(root=root).connect().get_root(IOther).echo("a")
    assert caught.value.status == Status.BAD_TYPE
    assert root.heard == []


def test_what_every_object_answers(serve: Serve) -> None:
    root = Text()
    text = serve(root=root).connect().get_root(IText)
    ping(text)
    assert remote_descriptor(text) == "test.IText"
    assert root.heard == []


def test_descriptors_are_closed(serve: Serve, tmp_path: Path) -> None:
    """The fixture sees one that is left; the bytes say only that there was one."""
    text = serve(root=Text()).connect().get_root(IText)
    with ParcelFileDescriptor(os.open(tmp_path, os.O_RDONLY)) as file:
        text.take(file)


def test_a_raw_service_has_a_descriptor(serve: Serve) -> None:
    with pytest.raises(StatusError) as caught:
        serve(root=RawService()).connect().get_root(IText).echo("a")
    assert caught.value.status == Status.BAD_TYPE
