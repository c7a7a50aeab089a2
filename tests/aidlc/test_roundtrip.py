"""Generated code at work: every kind of type, over a real socket, there and back."""

import importlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avf.aidlc.main import main
from avf.binder import Interface, ParcelFileDescriptor, Status, StatusError
from tests.aidlc.native import Native

Serve = Callable[[Interface, type[Interface]], Any]


def implementation(kinds: Any) -> Any:
    """An IEverything whose echo methods return what they get."""

    class Everything(kinds.IEverything, partial=True):  # type: ignore[misc]
        def __init__(self) -> None:
            self.forgot = threading.Event()

        def echo_file(self, value: ParcelFileDescriptor) -> ParcelFileDescriptor:
            return value.dup()

        def echo_files(self, value: list[ParcelFileDescriptor]) -> list[ParcelFileDescriptor]:
            return [file.dup() for file in value]

        def echo_raw_file(self, value: ParcelFileDescriptor) -> ParcelFileDescriptor:
            return value.dup()

        def echo_raw_files(self, value: list[ParcelFileDescriptor]) -> list[ParcelFileDescriptor]:
            return [file.dup() for file in value]

        def tag_of(self, value: Any) -> Any:
            return kinds.IEverything.Choice.Tag[value.which]

        def out_big(self) -> Any:
            return kinds.Big(number=77)

        def sum_and_reverse(
            self, values: list[int], names_length: int
        ) -> tuple[int, list[int], list[str]]:
            names = [str(value) for value in values][:names_length]
            return sum(values), values[::-1], names

        def forget(self, value: Any) -> None:
            assert value.text == "gone"
            self.forgot.set()

    for name in dir(kinds.IEverything):
        if name.startswith("echo_") and name not in vars(Everything):
            setattr(Everything, name, lambda self, value: value)
    return Everything()


@pytest.fixture
def proxy(kinds: Any, serve: Serve) -> Any:
    return serve(implementation(kinds), kinds.IEverything)


PLAIN = [
    ("boolean", True),
    ("byte", -128),
    ("char", "\uffff"),
    ("int", -(1 << 31)),
    ("long", (1 << 63) - 1),
    ("float", 0.5),
    ("double", 3.14e-17),
    ("string", "a\0b\U0001f600"),
    ("nullable_string", None),
    ("nullable_string", ""),
    ("booleans", [True, False]),
    ("bytes", b"\x00\xff\x80"),
    ("chars", ["x", "\u20ac"]),
    ("ints", [1, -1]),
    ("longs", [1 << 62]),
    ("floats", [0.25, -1.5]),
    ("doubles", []),
    ("strings", ["", "x"]),
    ("nullable_strings", None),
    ("nullable_strings", ["a", None]),
    ("list", ["a", "b"]),
    ("fixed_bytes", b"abcd"),
    ("fixed_ints", [1, 2, 3]),
    ("matrix", [[1, 2, 3], [4, 5, 6]]),
    ("fixed_strings", ["a", "b"]),
]


@pytest.mark.parametrize(("kind", "value"), PLAIN, ids=str)
def test_plain_values(proxy: Any, kind: str, value: object) -> None:
    found = getattr(proxy, f"echo_{kind}")(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("fixed_bytes", b"abc"),
        ("fixed_ints", [1, 2]),
        ("matrix", [[1, 2, 3]]),
        ("matrix", [[1, 2], [3, 4]]),
        ("byte", 128),
        ("int", 1 << 31),
    ],
    ids=str,
)
def test_what_does_not_fit_is_not_sent(proxy: Any, kind: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"elements|byte|argument|range|format"):
        getattr(proxy, f"echo_{kind}")(value)
    assert proxy.echo_int(1) == 1


def test_enums(kinds: Any, proxy: Any) -> None:
    assert proxy.echo_small(kinds.IEverything.Small.MINUS) is kinds.IEverything.Small.MINUS
    assert proxy.echo_plain(kinds.IEverything.Plain.TWO) is kinds.IEverything.Plain.TWO
    assert proxy.echo_wide(kinds.IEverything.Wide.HIGH) is kinds.IEverything.Wide.HIGH
    assert proxy.echo_wide(kinds.IEverything.Wide(12345678901)) == 12345678901
    assert proxy.echo_smalls(list(kinds.IEverything.Small)) == list(kinds.IEverything.Small)
    assert proxy.echo_plains([kinds.IEverything.Plain.ONE] * 3) == [kinds.IEverything.Plain.ONE] * 3
    assert proxy.echo_wides(list(kinds.IEverything.Wide)) == list(kinds.IEverything.Wide)
    colour = importlib.import_module("avftest.other").Colour
    assert proxy.echo_colour(colour.GREEN) is colour.GREEN


def test_defaults(kinds: Any) -> None:
    big = kinds.Big()
    assert big.number == 0
    assert (big.big, big.ratio, big.letter, big.small, big.on) == (1 << 40, 0.5, "x", -1, True)
    assert (big.text, big.missing, big.bytes_) == ("hello", None, b"\x01\xff")
    assert (big.ints, big.key, big.matrix) == ([1, 2, 3], bytes(3), [[0, 0], [0, 0]])
    assert big.inner == kinds.Big.Inner(x=5, names=["a", "b"])
    assert big.pair == [kinds.Big.Inner(), kinds.Big.Inner()]
    colours = importlib.import_module("avftest.other")
    assert (big.colour, big.colours) == (
        colours.Colour.GREEN,
        [colours.Colour.RED, colours.Colour.GREEN],
    )
    assert big.tree == kinds.Big.Tree(leaf=0)


def test_parcelables(kinds: Any, proxy: Any) -> None:
    big = kinds.Big(
        number=3,
        missing="there",
        inners=[kinds.Big.Inner(x=1), kinds.Big.Inner(names=[])],
        next=kinds.Big(text="inside"),
        tree=kinds.Big.Tree(branches=[kinds.Big.Tree(leaf=1), kinds.Big.Tree(branches=[])]),
    )
    assert proxy.echo_big(big) == big
    assert proxy.echo_big(kinds.Big()) == kinds.Big()
    assert proxy.echo_bigs([big, kinds.Big()]) == [big, kinds.Big()]
    assert proxy.echo_nullable_big(None) is None
    assert proxy.echo_nullable_bigs([None, big]) == [None, big]
    assert proxy.echo_nullable_list([big, None]) == [big, None]
    assert proxy.echo_nullable_list(None) is None
    assert proxy.echo_fixed_bigs([big]) == [big]


def test_unions(kinds: Any, proxy: Any) -> None:
    choices = [
        kinds.IEverything.Choice(number=1),
        kinds.IEverything.Choice(text="x"),
        kinds.IEverything.Choice(smalls=[kinds.IEverything.Small.PLUS]),
        kinds.IEverything.Choice(big=kinds.Big()),
        kinds.IEverything.Choice(binder=None),
    ]
    for choice in choices:
        assert proxy.echo_choice(choice) == choice
        assert proxy.tag_of(choice).name == choice.which


def test_objects(kinds: Any, proxy: Any) -> None:
    mine = implementation(kinds)
    assert proxy.echo_nullable_interface(mine) is mine
    assert proxy.echo_nullable_interface(None) is None
    assert proxy.echo_binder(mine) is mine
    assert proxy.echo_interfaces([mine, proxy]) == [mine, proxy]
    assert proxy.echo_binders([proxy, mine]) == [proxy, mine]
    assert proxy.echo_big(kinds.Big(binder=mine)).binder is mine


def test_files(proxy: Any) -> None:
    read_end, write_end = os.pipe()
    with ParcelFileDescriptor(read_end) as source, ParcelFileDescriptor(write_end) as sink:
        os.write(sink.fileno(), b"both")
        with proxy.echo_file(source) as copy:
            assert os.read(copy.fileno(), 2) == b"bo"
        first, second = proxy.echo_files([source, sink])
        with first, second:
            assert os.read(first.fileno(), 2) == b"th"


def test_raw_files(proxy: Any) -> None:
    read_end, write_end = os.pipe()
    with ParcelFileDescriptor(read_end) as source, ParcelFileDescriptor(write_end) as sink:
        os.write(sink.fileno(), b"both")
        with proxy.echo_raw_file(source) as copy:
            assert os.read(copy.fileno(), 2) == b"bo"
        first, second = proxy.echo_raw_files([source, sink])
        with first, second:
            assert os.read(first.fileno(), 2) == b"th"


def test_holders(kinds: Any, proxy: Any) -> None:
    holding = kinds.Holding()
    assert holding.extension.stability == 1
    assert proxy.echo_holding(holding) == holding
    extension = kinds.Holding.Extension(text="more", numbers=[1, 2])
    holding.extension.set(extension)
    back = proxy.echo_holding(holding)
    assert (back.before, back.after) == (1, 2)
    assert back.extension.descriptor == "avftest.kinds.Holding.Extension"
    assert back.extension.get(kinds.Holding.Extension) == extension
    assert kinds.Holding().extension.get(kinds.Holding.Extension) is None
    with pytest.raises(StatusError, match=r"avftest\.kinds\.Holding\.Extension is held"):
        back.extension.get(kinds.Big)


def test_parcelables_of_ones_own(proxy: Any) -> None:
    back = proxy.echo_native(Native(1, -2))
    assert isinstance(back, Native)
    assert (back.x, back.y) == (1, -2)
    none, some = proxy.echo_natives([None, back])
    assert none is None
    assert (some.x, some.y) == (1, -2)
    with pytest.raises(TypeError, match="Native wanted, not int"):
        proxy.echo_native(3)


def test_defaults_are_not_shared(kinds: Any) -> None:
    one, other = kinds.Big(), kinds.Big()
    one.pair[0].x = 6
    one.matrix[1][0] = 7
    one.inner.names.append("c")
    one.tree.leaf = 8
    assert other == kinds.Big()
    holding = kinds.Holding()
    holding.extension.set(kinds.Holding.Extension())
    assert kinds.Holding().extension.descriptor == ""


def test_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    source = tmp_path / "versioned" / "IVersioned.aidl"
    source.parent.mkdir()
    source.write_text("package versioned; interface IVersioned { int one(); }")
    assert main(["-o", str(tmp_path), "--version", "3", "--hash", "abc", str(source)]) == 0
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = importlib.import_module("versioned")

    class Versioned(module.IVersioned):  # type: ignore[misc]
        def one(self) -> int:
            return 1

    proxy = serve(Versioned(), module.IVersioned)
    assert proxy.one() == 1
    assert proxy.get_interface_version() == 3
    assert proxy.get_interface_hash() == "abc"


def test_arguments_that_come_out(kinds: Any, proxy: Any) -> None:
    assert proxy.out_big() == kinds.Big(number=77)
    assert proxy.sum_and_reverse([1, 2, 3], 2) == (6, [3, 2, 1], ["1", "2"])
    assert proxy.sum_and_reverse(values=[5], names_length=0) == (5, [5], [])


def test_oneway(kinds: Any, serve: Serve) -> None:
    server = implementation(kinds)
    serve(server, kinds.IEverything).forget(kinds.IEverything.Choice(text="gone"))
    assert server.forgot.wait(10)


def test_null_where_there_must_be_something(proxy: Any) -> None:
    with pytest.raises(TypeError, match=r"echo_binder: value: IBinder wanted, not NoneType"):
        proxy.echo_binder(None)


def test_a_method_nobody_implemented(proxy: Any) -> None:
    with pytest.raises(StatusError) as caught:
        proxy.from_(1, 2)
    assert caught.value.status == Status.UNKNOWN_TRANSACTION
