"""Several objects by name at one server, and accessors."""

import asyncio
from pathlib import Path

import pytest

from avf.binder import (
    Accessor,
    FdMode,
    IAccessor,
    IBinder,
    Interface,
    IServices,
    Peer,
    RemoteException,
    Server,
    Status,
    StatusError,
    accessed,
    aio,
    connect,
    inet,
    method,
    remote_descriptor,
    unix,
)
from tests.interop.echo import Echo, IEcho


class IClock(Interface, descriptor="test.IClock"):
    @method(1)
    def now(self) -> int:
        raise NotImplementedError


class Clock(IClock):
    def now(self) -> int:
        return 7


class IClockAsync(aio.AsyncInterface[IClock]):
    async def now(self) -> int:
        raise NotImplementedError


class AsyncClock(IClockAsync):
    async def now(self) -> int:
        await asyncio.sleep(0)
        return 8


def test_objects_are_found_by_name_and_have_their_types(tmp_path: Path) -> None:
    with (
        Server({"echo": Echo(), "clock": Clock()}) as server,
        connect(server.start(unix(tmp_path / "sock")), timeout=10) as session,
    ):
        assert session.services() == ["clock", "echo"]
        assert session.get_service("echo", IEcho).add_ints(2, 3) == 5
        assert session.get_service("clock", IClock).now() == 7
        root = session.get_root(IServices)
        assert remote_descriptor(root) == "avf.binder.IServices"


def test_a_wrong_name_and_a_wrong_type_are_told_apart(tmp_path: Path) -> None:
    with (
        Server({"clock": Clock()}) as server,
        connect(server.start(unix(tmp_path / "sock")), timeout=10) as session,
    ):
        with pytest.raises(StatusError, match="'watch'") as caught:
            session.get_service("watch", IClock)
        assert caught.value.status == Status.NAME_NOT_FOUND
        with pytest.raises(StatusError, match=r"'clock' is test\.IClock") as caught:
            session.get_service("clock", IEcho)
        assert caught.value.status == Status.BAD_TYPE
        assert session.get_service("clock", IClock).now() == 7


def test_a_server_of_one_object_has_no_names(tmp_path: Path) -> None:
    with (
        Server(Clock()) as server,
        connect(server.start(unix(tmp_path / "sock")), timeout=10) as session,
    ):
        with pytest.raises(StatusError, match="IServices") as caught:
            session.get_service("clock", IClock)
        assert caught.value.status == Status.BAD_TYPE


def test_a_function_decides_who_gets_an_object(tmp_path: Path) -> None:
    asked: list[Peer] = []

    def nobody(peer: Peer) -> IClock | None:
        asked.append(peer)
        return None

    with (
        Server({"clock": nobody}) as server,
        connect(server.start(unix(tmp_path / "sock")), timeout=10) as session,
        pytest.raises(StatusError, match="clock"),
    ):
        session.get_service("clock", IClock)
    assert [peer.uid is not None for peer in asked] == [True]


@pytest.mark.parametrize("services", [{1: Clock()}, {"clock": 5}, {"clock": Clock}])
def test_what_cannot_be_served_by_name_is_refused(services: object) -> None:
    with pytest.raises(TypeError):
        Server(services)  # type: ignore[arg-type]


def test_asyncio_serves_and_finds_objects_by_name(tmp_path: Path) -> None:
    async def main() -> tuple[list[str], int, int]:
        async with aio.Server({"a": AsyncClock(), "b": Clock(), "c": lambda peer: None}) as server:
            address = server.start(unix(tmp_path / "sock"))
            async with await aio.connect(address, timeout=10) as session:
                clock = await session.get_service("a", IClockAsync)
                other = await session.get_service("b", IClock)
                with pytest.raises(StatusError, match="'c'"):
                    await session.get_service("c", IClock)
                return await session.services(), await clock.now(), await aio.in_thread(other.now)

    assert asyncio.run(main()) == (["a", "b", "c"], 8, 7)


def test_an_accessor_gives_connections_to_another_server(tmp_path: Path) -> None:
    """Its client needs neither the address nor the right to it."""
    with (
        Server(Clock(), max_threads=2) as far,
        Server(
            {"clock": Accessor("clock", far.start(unix(tmp_path / "far")))},
            fd_modes=frozenset({FdMode.UNIX}),
        ) as near,
    ):
        address = near.start(unix(tmp_path / "near"))
        with connect(address, fd_mode=FdMode.UNIX, timeout=10) as session:
            accessor = session.get_service("clock", IAccessor)
            assert accessor.get_instance_name() == "clock"
            with connect(accessed(accessor), incoming_threads=1, timeout=10) as reached:
                assert reached.get_root(IClock).now() == 7


def test_an_accessor_says_why_it_gives_no_connection(tmp_path: Path) -> None:
    nobody = Accessor("clock", unix(tmp_path / "nobody"))
    with pytest.raises(RemoteException) as caught:
        nobody.add_connection()
    assert caught.value.service_specific == IAccessor.FAILED_TO_CONNECT
    with pytest.raises(ConnectionRefusedError, match="nobody"):
        connect(accessed(nobody))


def test_an_object_that_is_no_service_of_this_package_is_found_too(tmp_path: Path) -> None:
    """A server in another language implements IServices itself."""

    class Own(IServices):
        def find(self, name: str) -> IBinder | None:
            return Clock() if name == "clock" else None

        def names(self) -> list[str]:
            return ["clock"]

    with (
        Server(Own()) as server,
        connect(server.start(inet("127.0.0.1", 0)), timeout=10) as session,
    ):
        assert session.get_service("clock", IClock).now() == 7
