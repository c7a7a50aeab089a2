"""Null for an object that is not nullable: each side refuses it, whatever the other one writes."""

from pathlib import Path
from typing import Any

import pytest

from avf.binder import (
    Interface,
    Parcelable,
    RemoteException,
    Server,
    Status,
    StatusError,
    connect,
    method,
    unix,
)


class IThing(Interface, descriptor="avftest.IThing"):
    """Strict."""

    @method(1)
    def give(self) -> "IThing":
        raise NotImplementedError

    @method(2)
    def take(self, number: int, thing: "IThing", things: "list[IThing]") -> None:
        raise NotImplementedError


class ILax(Interface, descriptor="avftest.IThing"):
    """The same for a peer that writes null anywhere."""

    @method(1)
    def give(self) -> "ILax | None":
        raise NotImplementedError

    @method(2)
    def take(self, number: int, thing: "ILax | None", things: "list[ILax | None]") -> None:
        raise NotImplementedError


class Thing(IThing):
    def give(self) -> IThing:
        nothing: Any = None
        return nothing

    def take(self, number: int, thing: IThing, things: list[IThing]) -> None: ...


class Lax(ILax):
    def give(self) -> ILax | None:
        return None

    def take(self, number: int, thing: ILax | None, things: list[ILax | None]) -> None: ...


class Box(Parcelable, descriptor="avftest.Box"):
    thing: IThing


class IKeeper(Interface, descriptor="avftest.IKeeper"):
    @method(1)
    def keep(self, box: Box) -> None:
        raise NotImplementedError


class Keeper(IKeeper):
    def keep(self, box: Box) -> None: ...


NONE: Any = None


def test_the_caller_is_told_which_argument_it_is(tmp_path: Path) -> None:
    with Server(Thing()) as server, connect(server.start(unix(tmp_path / "s"))) as session:
        root = session.get_root(IThing)
        with pytest.raises(TypeError, match=r"^IThing\.take: thing: IThing wanted, not NoneType"):
            root.take(1, NONE, [])
        with pytest.raises(TypeError, match=r"^IThing\.take: things\[1\]: IThing wanted"):
            root.take(1, root, [root, NONE])
        root.take(1, root, [])


def test_a_field(tmp_path: Path) -> None:
    with Server(Keeper()) as server, connect(server.start(unix(tmp_path / "s"))) as session:
        keeper = session.get_root(IKeeper)
        with pytest.raises(TypeError, match=r"^IKeeper\.keep: box\.thing: IThing wanted"):
            keeper.keep(Box(thing=NONE))


def test_the_server_is_told_of_its_result(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Server(Thing()) as server, connect(server.start(unix(tmp_path / "s"))) as session:
        root = session.get_root(IThing)
        with pytest.raises(RemoteException, match=r"IThing\.give failed with TypeError"):
            root.give()
    assert "IThing.give: result: IThing wanted, not NoneType" in capfd.readouterr().err


def test_null_that_a_peer_wrote_all_the_same(tmp_path: Path) -> None:
    with Server(Thing()) as server, connect(server.start(unix(tmp_path / "s"))) as session:
        lax = session.get_root(ILax)
        for arguments in ((1, None, []), (1, lax, [None])):
            with pytest.raises(
                RemoteException,
                match=r"NULL_POINTER: .*None was given, in \(number, thing, things\)",
            ):
                lax.take(*arguments)
    with Server(Lax()) as server, connect(server.start(unix(tmp_path / "t"))) as session:
        with pytest.raises(StatusError) as raised:
            session.get_root(IThing).give()
        assert raised.value.status == Status.UNEXPECTED_NULL
