"""Interface classes: what they refuse, and what their methods become."""

from typing import Any

import pytest

from avf.binder import Enum, IBinder, Interface, Long, Status, StatusError, method, prepare_calls
from avf.binder.contract import Contract

from .conftest import Serve


class IChain(Interface, descriptor="avf.test.IChain"):
    @method(1)
    def give(self, other: "IChain | None") -> "IChain":
        raise NotImplementedError

    @method(2)
    def count(self, values: "list[IChain]") -> Long:
        raise NotImplementedError

    @method(7)
    def void(self) -> None: ...


def contract_of(interface: type[Interface]) -> Contract:
    found = interface._contract
    assert found is not None
    return found


class Chain(IChain):
    def give(self, other: IChain | None) -> IChain:
        return other or self

    def count(self, values: list[IChain]) -> int:
        return len(set(values))


def test_methods_by_code() -> None:
    methods = contract_of(IChain).methods()
    assert {code: made.name for code, made in methods.items()} == {
        1: "IChain.give",
        2: "IChain.count",
        7: "IChain.void",
    }
    assert contract_of(Chain) is contract_of(IChain)
    assert contract_of(IChain).descriptor == "avf.test.IChain"


def test_what_calls_take_is_made_once() -> None:
    class Late(Interface, descriptor="avf.test.ILate"):
        @method(1)
        def void(self) -> None: ...

    assert contract_of(Late)._proxy is None
    prepare_calls(Late)
    made = contract_of(Late)._proxy
    assert made is not None
    assert contract_of(Late).proxy_class() is made
    with pytest.raises(TypeError, match="no descriptor"):
        prepare_calls(Interface)


def test_an_interface_may_speak_of_itself(serve: Serve) -> None:
    root = serve(root=Chain()).connect().get_root(IChain)
    assert root.give(None) is root
    assert root.give(root) is root
    mine = Chain()
    assert root.give(mine) is mine
    assert root.count([root, mine, root]) == 2


def test_a_method_nobody_wrote_is_unknown_even_if_it_would_return_nothing(serve: Serve) -> None:
    root = serve(root=Chain()).connect().get_root(IChain)
    with pytest.raises(StatusError) as raised:
        root.void()
    assert raised.value.status == Status.UNKNOWN_TRANSACTION


def test_objects_of_other_interfaces_are_refused(serve: Serve) -> None:
    class IOther(Interface, descriptor="avf.test.IOther"):
        pass

    root: Any = serve(root=Chain()).connect().get_root(IChain)
    with pytest.raises(TypeError, match="other: IChain wanted, not IOther"):
        root.give(IOther())
    with pytest.raises(TypeError, match="other: IChain wanted, not IBinder"):
        root.give(IBinder())


def test_contracts_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="transaction code 0"):
        method(0)
    with pytest.raises(ValueError, match="transaction code 16777216"):
        method(1 << 24)

    class ITwice(Interface, descriptor="avf.test.ITwice"):
        @method(1)
        def one(self) -> None: ...

        @method(1)
        def two(self) -> None: ...

    class IOneway(Interface, descriptor="avf.test.IOneway"):
        @method(1, oneway=True)
        def one(self) -> int:
            raise NotImplementedError

    class IStrange(Interface, descriptor="avf.test.IStrange"):
        @method(1)
        def one(self, what: complex) -> None: ...

    class IBare(Interface, descriptor="avf.test.IBare"):
        @method(1)
        def one(self, what) -> None: ...  # type: ignore[no-untyped-def]

    class ILost(Interface, descriptor="avf.test.ILost"):
        @method(1)
        def one(self, what: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for interface, complaint in (
        (ITwice, r"ITwice.two: code 1 is taken"),
        (IOneway, r"IOneway.one: a oneway method returns nothing"),
        (IStrange, r"IStrange.one, what: .*complex.* is not an AIDL type"),
        (IBare, r"IBare.one: what has no annotation"),
        (ILost, r"ILost.one, what: name 'Nowhere' is not defined"),
    ):
        with pytest.raises(TypeError, match=complaint):
            contract_of(interface).methods()
    with pytest.raises(TypeError, match="an enum is backed by int, byte, long"):

        class Bad(Enum, backing="short"):
            A = 1


def test_interfaces_without_descriptor_have_no_proxies(serve: Serve) -> None:
    class Nameless(Interface):
        pass

    session = serve(root=Chain()).connect()
    with pytest.raises(TypeError, match="Nameless has no descriptor"):
        session.get_root(Nameless)
