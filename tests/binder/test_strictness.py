"""What is refused before it is sent, and what values can do beside travelling."""

import copy
import inspect
import json
import pydoc
import sys
from typing import Annotated, Any

import pytest

from avf.binder import (
    Enum,
    FixedSize,
    IBinder,
    Interface,
    Parcel,
    Parcelable,
    ParcelableHolder,
    ParcelReader,
    Server,
    Status,
    StatusError,
    Union,
    field,
    interface_cast,
    method,
    remote_descriptor,
)
from avf.binder.codecs import codec_for
from tests.interop.echo import Echo, IEcho

from .conftest import Serve


class Level(Enum, backing="byte"):
    LOW = 1
    HIGH = 2


class Other(Enum, backing="byte"):
    LOW = 1


class Inner(Parcelable, descriptor="strict.Inner"):
    names: list[str] = []  # noqa: RUF012 - copied per instance
    level: Level = field(factory=lambda: Level.LOW)


class Choice(Union, descriptor="strict.Choice"):
    text: str
    inner: Inner


class Outer(Parcelable, descriptor="strict.Outer"):
    inners: list[Inner] = []  # noqa: RUF012
    choice: Choice = field(factory=lambda: Choice(text=""))
    must: bool
    data: bytes = b""
    next: "Outer | None" = None


class Special(Inner):
    """A subclass of a parcelable."""


class IStrict(Interface, descriptor="strict.IStrict"):
    @method(1)
    def take(self, on: bool, levels: list[Level], outer: Outer) -> None:
        """Takes all of it."""

    @method(2)
    def watch(self, watcher: "IWatcher") -> None: ...

    @method(3)
    def fail(self, how: str) -> str:
        raise NotImplementedError


class IWatcher(Interface, descriptor="strict.IWatcher"):
    @method(1, oneway=True)
    def seen(self, count: int) -> None: ...


class Strict(IStrict):
    def take(self, on: bool, levels: list[Level], outer: Outer) -> None:
        self.taken = on, levels, outer

    def watch(self, watcher: IWatcher) -> None:
        watcher.seen(1)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (bool, "false", "bool wanted, not str"),
        (bool, 2, "bool wanted, not int"),
        (bool, None, "bool wanted, not NoneType"),
        (list[bool], [True, 0], r"\[1\]: bool wanted, not int"),
        (Level, 1, r"Level wanted, not int; Level\(1\) makes one of a number"),
        (Level, Other.LOW, "Level wanted, not Other"),
        (Level, 1 << 100_000, "Level wanted, not int"),
        (Level, "LOW", "Level wanted, not str"),
        (list[Level], [Level.LOW, 2], r"\[1\]: Level wanted, not int; .*"),
        (list[Level], [Other.LOW], r"\[0\]: Level wanted, not Other"),
        (Annotated[list[Level], FixedSize(1)], [Other.LOW], r"\[0\]: Level wanted, not Other"),
        (list[str], {"a": 1}, "list wanted, not dict"),
        (list[str], {"a"}, "list wanted, not set"),
        (Inner, {"names": []}, "Inner wanted, not dict"),
        (Inner, Inner(names=["a", 5]), r"\.names\[1\]: str wanted, not int"),  # type: ignore[list-item]
        (Choice, Inner(), "Choice wanted, not Inner"),
        (Choice, Choice(inner=Inner(level=7)), r"\.inner\.level: Level wanted, not int; .*"),
        (tuple[int, str], 5, "a tuple of 2 wanted, not int"),
        (tuple[int, str], (1, 2), r"\[1\]: str wanted, not int"),
        (IWatcher, Strict(), "IWatcher wanted, not Strict"),
        (IWatcher, 5, "IWatcher wanted, not int"),
    ],
    ids=range(21),
)
def test_what_does_not_fit(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        codec_for(annotation).write(Parcel(), value)


def test_errors_name_the_whole_place(serve: Serve) -> None:
    proxy = serve(root=Strict()).connect().get_root(IStrict)
    bad = Outer(must=True, inners=[Inner(), Inner(names=["a", "b", 3])])  # type: ignore[list-item]
    with pytest.raises(
        TypeError, match=r"^IStrict\.take: outer\.inners\[1\]\.names\[2\]: str wanted, not int$"
    ):
        proxy.take(True, [], bad)
    with pytest.raises(TypeError, match=r"^IStrict\.take: levels\[0\]: Level wanted, not int"):
        proxy.take(True, [1], bad)  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"IStrict\.take takes \(.*\): on is given twice"):
        proxy.take(True, [], bad, on=False)  # type: ignore[misc]


def test_a_proxy_of_another_interface(serve: Serve) -> None:
    proxy = serve(root=Strict()).connect().get_root(IStrict)
    with pytest.raises(TypeError, match=r"watcher: IWatcher wanted, not IStrictProxy; if it is"):
        proxy.watch(proxy)  # type: ignore[arg-type]


def test_a_root_of_another_interface(serve: Serve) -> None:
    session = serve(root=Strict()).connect()
    with pytest.raises(
        StatusError, match=r"root is strict\.IStrict, not strict\.IWatcher"
    ) as caught:
        session.get_root(IWatcher)
    assert caught.value.status == Status.BAD_TYPE
    assert remote_descriptor(session.get_root(IBinder)) == "strict.IStrict"
    assert isinstance(session.get_root(IStrict), IStrict)
    with pytest.raises(TypeError, match="a class of binder objects wanted, not <class 'int'>"):
        session.get_root(int)  # type: ignore[arg-type]


def test_a_class_that_makes_objects_of_the_peer(serve: Serve) -> None:
    class OfPeer(Echo):
        def __init__(self, peer: object) -> None:
            super().__init__()

    assert serve(root=OfPeer).connect().get_root(IEcho).add_ints(1, 2) == 3
    with pytest.raises(TypeError, match=r"not the class Echo: Echo\(\) makes one"):
        Server(Echo)


def test_a_subclass_of_a_parcelable(serve: Serve) -> None:
    server = Strict()
    proxy = serve(root=server).connect().get_root(IStrict)
    proxy.take(False, [Level.HIGH], Outer(must=True, inners=[Special(names=["x"])]))
    assert server.taken == (
        False,
        [Level.HIGH],
        Outer(must=True, inners=[Inner(names=["x"])]),
    )
    assert ParcelableHolder(Special()).descriptor == "strict.Inner"


def chain(length: int) -> Outer:
    made = Outer(must=True)
    for _ in range(length - 1):
        made = Outer(must=True, next=made)
    return made


def test_values_nested_too_deep_are_refused_in_a_line() -> None:
    codec = codec_for(Outer)
    parcel = Parcel()
    codec.write(parcel, chain(63))
    assert codec.read(ParcelReader(parcel.payload())) == chain(63)
    with pytest.raises(StatusError, match="more than 64 values within one another") as caught:
        codec.write(Parcel(), chain(300))
    assert len(str(caught.value)) < 200
    caught.value.add_method("IFoo.bar")
    assert str(caught.value).endswith("more than 64 values within one another")


def test_values_that_stand_side_by_side_are_not_deep() -> None:
    parcel = Parcel()
    codec_for(list[Outer]).write(parcel, [chain(2) for _ in range(200)])
    assert parcel.depth == 0


# What values and proxies say of themselves

VALUE = Outer(
    must=True,
    inners=[Inner(names=["a"], level=Level.HIGH)],
    choice=Choice(inner=Inner()),
    data=b"x",
    next=Outer(must=False),
)


def test_to_dict_and_back() -> None:
    plain = VALUE.to_dict()
    assert plain["inners"] == [{"names": ["a"], "level": 2}]
    assert plain["choice"] == {"inner": {"names": [], "level": 1}}
    assert plain["next"]["choice"] == {"text": ""}
    assert Outer.from_dict(plain) == VALUE
    del plain["data"], plain["next"]["data"]
    assert Outer.from_dict(json.loads(json.dumps(plain)) | {"data": b"x"}) == VALUE
    assert Inner.from_dict({"level": "HIGH"}).level is Level.HIGH


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({}, "Outer: must missing"),
        ({"must": True, "x": 1}, "Outer: Outer has no x"),
        ({"must": True, "inners": {}}, "Outer.inners: list wanted, not dict"),
        ({"must": True, "inners": [{"level": "MAX"}]}, r"Outer\.inners\[0\]\.level: Level wanted, not 'MAX'"),
        ({"must": True, "inners": [{"level": 1 << 100_000}]}, "level: Level wanted, not int"),
        ({"must": True, "choice": {}}, "Outer.choice: Choice has exactly one member, not 0"),
        ({"must": True, "choice": {"text": "", "inner": {}}}, "exactly one member, not 2"),
        ({"must": True, "choice": {"txt": ""}}, "Outer.choice: Choice has no txt"),
        ({"must": True, "next": 5}, "Outer.next: dict wanted, not int"),
    ],
)  # fmt: skip
def test_dicts_of_another_form(plain: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Outer.from_dict(plain)


def test_copies() -> None:
    changed = VALUE.__replace__(must=False)
    assert (changed.must, changed.choice) == (False, VALUE.choice)
    assert VALUE.must is True
    with pytest.raises(TypeError, match="has no field mst"):
        VALUE.__replace__(mst=False)
    assert VALUE.choice.__replace__(text="t") == Choice(text="t")
    if sys.version_info >= (3, 13):
        assert copy.replace(VALUE, must=False) == changed
    deep = copy.deepcopy(VALUE)
    assert deep == VALUE
    deep.inners[0].names.append("b")
    assert VALUE.inners[0].names == ["a"]


def test_signatures_and_documentation(serve: Serve) -> None:
    proxy = serve(root=Strict()).connect().get_root(IStrict)
    assert str(inspect.signature(proxy.take)).startswith("(on: bool, levels: list[")
    assert inspect.getdoc(proxy.take) == "Takes all of it."
    assert "take(self, on: bool, levels: list[" in pydoc.plain(pydoc.render_doc(type(proxy)))
    assert list(inspect.signature(Outer).parameters) == ["inners", "choice", "must", "data", "next"]
    parameters = inspect.signature(Inner).parameters.values()
    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}
    assert inspect.signature(Outer).parameters["must"].default is inspect.Parameter.empty
    assert list(inspect.signature(Choice).parameters) == ["text", "inner"]
    assert interface_cast(IStrict, proxy) is proxy
