"""Types and directions that the AIDL compiler makes use of, over a real socket."""

import os
import struct
from typing import Annotated, Any

import pytest

from avf.binder import (
    Enum,
    FixedSize,
    IBinder,
    Interface,
    Parcelable,
    ParcelableHolder,
    ParcelFileDescriptor,
    Status,
    StatusError,
    Union,
    method,
)
from avf.binder.codecs import codec_for
from avf.binder.wire import META_CODES
from tests.eventually import eventually

from .conftest import Serve
from .test_parcel import read, written


class Huge(Enum, backing="long"):
    LEAST = -(1 << 63)
    MOST = (1 << 63) - 1


class Small(Enum, backing="byte"):
    A = -128
    B = 127


Row = Annotated[list[int], FixedSize(3)]
Grid = Annotated[list[Row], FixedSize(2)]
Key = Annotated[bytes, FixedSize(4)]
Keys = Annotated[list[Key], FixedSize(2)]
Levels = Annotated[list[Small], FixedSize(5)]


class Choice(Union):
    number: int
    names: list[str]


class Extra(Parcelable, descriptor="avf.test.Extra"):
    number: int = 0
    text: str = ""


class Carrier(Parcelable, descriptor="avf.test.Carrier"):
    binder: IBinder | None = None
    file: ParcelFileDescriptor | None = None
    after: int = 0


class Open(Parcelable):
    before: int = 1
    extra: ParcelableHolder = ParcelableHolder()
    after: int = 2


class Deep(Parcelable):
    grid: Grid = [[0, 0, 0], [0, 0, 0]]  # noqa: RUF012
    choice: Choice = Choice(number=0)
    extra: ParcelableHolder = ParcelableHolder()


class Later(Parcelable):
    """As `Empty`, by somebody with newer files."""

    grid: Grid
    keys: Keys
    levels: Levels


class Empty(Parcelable):
    pass


class IKinds(Interface, descriptor="avf.test.IKinds"):
    @method(1)
    def huge(self, value: Huge, values: list[Huge]) -> tuple[Huge, list[Huge]]:
        raise NotImplementedError

    @method(2)
    def fixed(self, grid: Grid, keys: Keys, levels: Levels) -> tuple[Grid, Keys, Levels]:
        raise NotImplementedError

    @method(3)
    def objects(
        self, values: "list[IKinds]", maybe: "list[IKinds | None] | None"
    ) -> "tuple[list[IKinds], list[IKinds | None] | None]":
        raise NotImplementedError

    @method(4)
    def change(
        self, extra: Extra, numbers: list[int], room: int
    ) -> tuple[int, Extra, list[int], list[str]]:
        """int change(inout Extra extra, inout int[] numbers, out String[] names)."""
        raise NotImplementedError

    @method(5)
    def fill(self, room: int) -> list[Extra]:
        """void fill(out Extra[] all)."""
        raise NotImplementedError

    @method(6)
    def pass_on(self, value: Open) -> Open:
        raise NotImplementedError

    @method(7)
    def look_into(self, value: Open) -> str:
        raise NotImplementedError

    @method(8)
    def swap(self, file: ParcelFileDescriptor) -> ParcelFileDescriptor:
        """void swap(inout ParcelFileDescriptor file)."""
        raise NotImplementedError

    @method(0x00FFFFFF)
    def get_interface_version(self) -> int:
        return 3

    @method(0x00FFFFFE)
    def get_interface_hash(self) -> str:
        return "c0ffee"


class Kinds(IKinds):
    def huge(self, value: Huge, values: list[Huge]) -> tuple[Huge, list[Huge]]:
        return value, values[::-1]

    def fixed(self, grid: Grid, keys: Keys, levels: Levels) -> tuple[Grid, Keys, Levels]:
        return grid[::-1], keys[::-1], levels[::-1]

    def objects(
        self, values: list[IKinds], maybe: list[IKinds | None] | None
    ) -> tuple[list[IKinds], list[IKinds | None] | None]:
        return values[::-1], maybe

    def change(
        self, extra: Extra, numbers: list[int], room: int
    ) -> tuple[int, Extra, list[int], list[str]]:
        extra.number += 1
        numbers.append(5)
        return extra.number, extra, numbers, [extra.text] * room

    def fill(self, room: int) -> list[Extra]:
        return [Extra(number=i) for i in range(room)]

    def pass_on(self, value: Open) -> Open:
        return value

    def look_into(self, value: Open) -> str:
        carried = value.extra.get(Carrier)
        if carried is None:
            return "nothing"
        assert carried.file is not None
        assert carried.binder is not None
        return f"{os.read(carried.file.fileno(), 100).decode()} {carried.after}"

    def swap(self, file: ParcelFileDescriptor) -> ParcelFileDescriptor:
        return file


@pytest.fixture(params=[1, 2])
def root(serve: Serve, request: pytest.FixtureRequest) -> IKinds:
    served = serve(root=Kinds(), max_version=request.param)
    session = served.connect(max_version=request.param, incoming_threads=1)
    assert session.version == request.param
    return session.get_root(IKinds)


def test_enums_of_long(root: IKinds) -> None:
    assert root.huge(Huge.MOST, [Huge.LEAST, Huge(7)]) == (Huge.MOST, [Huge(7), Huge.LEAST])
    assert written(Huge, Huge.LEAST).hex() == "0000000000000080"
    assert written(list[Huge], [Huge(1)]).hex() == "01000000" + "0100000000000000"


def test_nested_arrays_of_fixed_size(root: IKinds) -> None:
    grid, keys = [[1, 2, 3], [4, 5, 6]], [b"abcd", b"efgh"]
    levels = [Small.A, Small.B, Small.A, Small.A, Small.A]
    assert root.fixed(grid, keys, levels) == (grid[::-1], keys[::-1], levels[::-1])
    assert written(Grid, grid) == struct.pack("<iiiiiiiii", 2, 3, 1, 2, 3, 3, 4, 5, 6)
    assert written(Keys, keys) == struct.pack("<ii4si4s", 2, 4, b"abcd", 4, b"efgh")
    assert written(Levels, levels).hex() == "05000000" + "807f808080000000"
    for wrong in ([[1, 2, 3]], [[1, 2, 3], [4, 5]]):
        with pytest.raises(ValueError, match=r"grid(\[1\])?: \d elements, must be \d"):
            root.fixed(wrong, keys, levels)
    with pytest.raises(StatusError) as raised:
        read(Grid, struct.pack("<iiiii", 1, 3, 1, 2, 3))
    assert raised.value.status == Status.BAD_VALUE


def test_fields_a_peer_did_not_send_have_their_size() -> None:
    assert read(Later, written(Empty, Empty())) == Later(
        grid=[[0] * 3] * 2, keys=[bytes(4)] * 2, levels=[Small.A] * 5
    )


def test_arrays_of_interfaces(root: IKinds) -> None:
    mine = Kinds()
    assert root.objects([root, mine], None) == ([mine, root], None)
    assert root.objects([], [None, mine]) == ([], [None, mine])
    values: Any = [None]
    with pytest.raises(TypeError, match=r"objects: .*\[0\]: IKinds wanted, not NoneType"):
        root.objects(values, None)


def test_arguments_that_go_in_and_come_out(root: IKinds) -> None:
    mine, numbers = Extra(number=6, text="x"), [1]
    changed = root.change(mine, numbers, 2)
    assert changed == (7, Extra(number=7, text="x"), [1, 5], ["x", "x"])
    assert (mine, numbers) == (Extra(number=6, text="x"), [1])
    assert root.fill(2) == [Extra(number=0), Extra(number=1)]
    assert root.fill(0) == []


def test_a_descriptor_that_goes_in_and_comes_out(root: IKinds, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("x")
    with ParcelFileDescriptor(os.open(tmp_path / "file", os.O_RDONLY)) as file:
        with root.swap(file) as swapped:
            assert os.read(swapped.fileno(), 9) == b"x"
            assert swapped.fileno() != file.fileno()
        assert os.pread(file.fileno(), 9, 0) == b"x"


def test_what_an_interface_says_of_itself(root: IKinds, serve: Serve) -> None:
    assert root.get_interface_version() == 3
    assert root.get_interface_hash() == "c0ffee"
    assert {16777215, 16777214} == META_CODES

    class IUnversioned(Interface, descriptor="avf.test.IKinds"):
        pass

    class Unversioned(IUnversioned):
        pass

    old = serve(root=Unversioned()).connect().get_root(IKinds)
    with pytest.raises(StatusError) as raised:
        old.get_interface_version()
    assert raised.value.status == Status.UNKNOWN_TRANSACTION


def test_defaults_of_any_kind_are_copied() -> None:
    one, two = Deep(), Deep()
    one.grid[0][0] = 5
    one.choice.names = ["a"]
    one.extra.set(Extra())
    assert two == Deep(grid=[[0] * 3] * 2, choice=Choice(number=0), extra=ParcelableHolder())


def test_the_bytes_of_a_holder() -> None:
    assert written(ParcelableHolder, ParcelableHolder()).hex() == "01000000" + "00000000" * 2
    name = struct.pack("<i", 14) + "avf.test.Extra".encode("utf-16-le") + bytes(4)
    body = struct.pack("<iiiI", 16, 7, 0, 0)
    expected = struct.pack("<iii", 1, 0, len(name) + len(body)) + name + body
    assert written(ParcelableHolder, ParcelableHolder(Extra(number=7))) == expected
    stable = ParcelableHolder(Extra(number=7), stability=1)
    assert written(ParcelableHolder, stable) == expected[:4] + b"\1" + expected[5:]
    found = read(ParcelableHolder, expected)
    assert found.descriptor == "avf.test.Extra"
    assert repr(found) == "ParcelableHolder(<avf.test.Extra, not decoded>)"
    assert written(ParcelableHolder, found) == expected
    assert found == read(ParcelableHolder, expected)
    assert found.get(Extra) == Extra(number=7)
    assert found == ParcelableHolder(Extra(number=7))
    assert written(ParcelableHolder, found) == expected


def test_holders_of_other_things() -> None:
    class Nameless(Parcelable):
        pass

    with pytest.raises(TypeError, match="Nameless has no descriptor"):
        ParcelableHolder(Nameless())
    held = ParcelableHolder(Nameless(), descriptor="a.B")
    assert held.get(Nameless, descriptor="a.B") == Nameless()
    with pytest.raises(StatusError, match=r"a\.B is held, not avf\.test\.Extra"):
        held.get(Extra)
    assert ParcelableHolder().get(Extra) is None
    held.set(None)
    assert held == ParcelableHolder()
    with pytest.raises(TypeError, match="ParcelableHolder wanted, not int"):
        written(ParcelableHolder, 5)


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<iii", 1, 2, 0),
        struct.pack("<iii", 1, 0, -1),
        struct.pack("<iii", 1, 0, 100),
        struct.pack("<iiii", 1, 0, 4, -1),
        struct.pack("<iiiiI", 1, 0, 4, 1, 65),
        struct.pack("<iiiiI", 1, 0, 8, 0, 0),
    ],
)
def test_holders_that_cannot_be(raw: bytes) -> None:
    with pytest.raises(StatusError) as raised:
        read(ParcelableHolder, raw)
    assert raised.value.status == Status.BAD_VALUE


def test_what_is_held_may_be_malformed() -> None:
    raw = written(ParcelableHolder, ParcelableHolder(Extra(number=7)))
    for size in (3, 8, 12, 100):
        found = read(ParcelableHolder, raw[:-16] + struct.pack("<i", size) + raw[-12:])
        if size == 8:
            assert found.get(Extra) == Extra(number=7)
            continue
        with pytest.raises(StatusError) as raised:
            found.get(Extra)
        assert raised.value.status == Status.BAD_VALUE


def test_holders_travel(root: IKinds) -> None:
    value = Open(extra=ParcelableHolder(Extra(number=7)), after=5)
    assert root.look_into(Open()) == "nothing"
    back = root.pass_on(value)
    assert (back.before, back.after) == (1, 5)
    assert back.extra.get(Extra) == Extra(number=7)
    with pytest.raises(StatusError) as raised:
        root.look_into(value)
    assert raised.value.status == Status.BAD_VALUE
    newer = read(Extra, written(Empty, Empty()))
    assert newer == Extra()


def test_holders_carry_objects_and_descriptors(root: IKinds, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("content")
    mine = Kinds()
    with ParcelFileDescriptor(os.open(tmp_path / "file", os.O_RDONLY)) as file:
        value = Open(extra=ParcelableHolder(Carrier(binder=mine, file=file, after=9)))
        assert root.look_into(value) == "content 9"
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        found = root.pass_on(value).extra.get(Carrier)
    assert found is not None
    assert found.file is not None
    with found.file:
        assert os.read(found.file.fileno(), 100) == b"content"
    assert found.binder is mine
    assert found.after == 9


def test_a_descriptor_nobody_looks_for_in_a_holder_is_closed(root: IKinds) -> None:
    with open("/dev/null", "rb") as file:
        value = ParcelFileDescriptor(os.dup(file.fileno()))
        with value:
            back = root.pass_on(Open(extra=ParcelableHolder(Carrier(file=value))))
    del back  # the fixture of this folder looks for open descriptors


def test_default_of_holders() -> None:
    assert codec_for(ParcelableHolder).default() == ParcelableHolder()


def test_an_undecoded_holder_does_not_go_to_another_session(serve: Serve) -> None:
    """Its bytes may have addresses in them, which mean other objects there."""
    one, two = (serve(root=Kinds()).connect().get_root(IKinds) for _ in range(2))
    value = one.pass_on(Open(extra=ParcelableHolder(Extra(number=7))))
    with pytest.raises(StatusError) as raised:
        two.pass_on(value)
    assert raised.value.status == Status.INVALID_OPERATION
    assert value.extra.get(Extra) == Extra(number=7)
    assert two.pass_on(value).extra.get(Extra) == Extra(number=7)


def test_objects_in_holders_are_counted_once_however_often_they_are_passed_on(serve: Serve) -> None:
    served = serve(root=Kinds(), max_version=2)
    root = served.connect(max_version=2).get_root(IKinds)
    mine = Kinds()
    with open("/dev/null", "rb") as file, ParcelFileDescriptor(os.dup(file.fileno())) as fd:
        for _ in range(3):
            root.pass_on(Open(extra=ParcelableHolder(Carrier(binder=mine, file=fd))))
            assert root.look_into(Open(extra=ParcelableHolder(Carrier(binder=mine, file=fd))))
    assert root._remote is not None
    table = root._remote.remote.core.table  # type: ignore[attr-defined]
    eventually(lambda: (root.get_interface_version(), len(table.nodes))[1], 1)
