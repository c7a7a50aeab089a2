"""Annotations that mean something: permissions, and null inside of arrays."""

import array
import asyncio
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

from avf.aidlc import AidlError
from avf.aidlc.main import main
from avf.binder import (
    Byte,
    Char,
    ExceptionCode,
    FdMode,
    FixedSize,
    Interface,
    Parcel,
    RawService,
    RemoteException,
    Server,
    aio,
    connect,
    unix,
)
from avf.binder.codecs import codec_for
from tests.aidlc.compiling import compile_text

Serve = Callable[[Interface, type[Interface]], Any]

GUARDED = """
package guardtest;
interface IGuarded {
    int open();
    @EnforcePermission("READ") int one();
    @EnforcePermission(allOf={"READ", "WRITE"}) int both();
    @EnforcePermission(anyOf={"WRITE", "ADMIN"}) int either();
    @RequiresNoPermission int free();
}
"""
WHOLE = """
package guardtest;
@EnforcePermission("ADMIN")
interface IWhole { int one(); }
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    root = tmp_path_factory.mktemp("guarded")
    (root / "in/guardtest").mkdir(parents=True)
    (root / "in/guardtest/IGuarded.aidl").write_text(GUARDED)
    (root / "in/guardtest/IWhole.aidl").write_text(WHOLE)
    assert main(["-o", str(root / "out"), str(root / "in")]) == 0
    sys.path.insert(0, str(root / "out"))
    yield importlib.import_module("guardtest")
    sys.path.remove(str(root / "out"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "guardtest"]:
        del sys.modules[name]


def guard(interface: type[Interface], ran: list[str], allowed: set[str] | None) -> Any:
    """An object that notes which methods ran. It has no checker if `allowed` is None."""

    def method_named(name: str) -> Callable[[Any], int]:
        def run(self: Any) -> int:
            ran.append(name)
            return 1

        return run

    names = [name for name in ("open", "one", "both", "either", "free") if hasattr(interface, name)]
    members: dict[str, Any] = {name: method_named(name) for name in names}
    if allowed is not None:
        members["has_permission"] = lambda self, name: name in allowed
    return type("Guard", (interface,), members)()


@pytest.mark.parametrize(
    ("allowed", "runs"),
    [
        (None, {"open", "free"}),
        (set(), {"open", "free"}),
        ({"READ"}, {"open", "free", "one"}),
        ({"WRITE"}, {"open", "free", "either"}),
        ({"ADMIN"}, {"open", "free", "either"}),
        ({"READ", "WRITE"}, {"open", "free", "one", "both", "either"}),
    ],
    ids=["no checker", "nothing", "READ", "WRITE", "ADMIN", "READ and WRITE"],
)
def test_permissions(guarded: Any, serve: Serve, allowed: set[str] | None, runs: set[str]) -> None:
    ran: list[str] = []
    proxy = serve(guard(guarded.IGuarded, ran, allowed), guarded.IGuarded)
    for name in ("open", "one", "both", "either", "free"):
        if name in runs:
            assert getattr(proxy, name)() == 1
            continue
        with pytest.raises(RemoteException, match=rf"IGuarded\.{name}: access denied") as caught:
            getattr(proxy, name)()
        assert caught.value.code == ExceptionCode.SECURITY
    assert set(ran) == runs


@pytest.mark.parametrize(
    ("checker", "runs"),
    [
        (None, {"open", "free"}),
        (lambda self, name: name == "READ", {"open", "free", "one"}),
        (lambda self, name: [name], {"open", "free"}),
    ],
    ids=["none", "READ", "no bool"],
)
def test_permissions_in_a_loop(guarded: Any, tmp_path: Path, checker: Any, runs: set[str]) -> None:
    ran: list[str] = []
    names = ("open", "one", "both", "either", "free")

    def method_named(name: str) -> Callable[[Any], Any]:
        async def run(self: Any) -> int:
            ran.append(name)
            return 1

        return run

    members: dict[str, Any] = {name: method_named(name) for name in names}
    if checker is not None:
        members["has_permission"] = checker
    made = type("Guard", (guarded.IGuardedAsync,), members)()

    async def main() -> None:
        async with aio.Server(made) as server:
            address = server.start(unix(tmp_path / "guarded.sock"))
            async with await aio.connect(address, timeout=10) as session:
                proxy = await session.get_root(guarded.IGuardedAsync)
                for name in names:
                    if name in runs:
                        assert await getattr(proxy, name)() == 1
                        continue
                    with pytest.raises(RemoteException, match="access denied") as caught:
                        await getattr(proxy, name)()
                    assert caught.value.code == ExceptionCode.SECURITY

    asyncio.run(main())
    assert set(ran) == runs


def test_permission_of_an_interface(guarded: Any, serve: Serve) -> None:
    ran: list[str] = []
    with pytest.raises(RemoteException, match=r"SECURITY: IWhole\.one: .*requires ADMIN"):
        serve(guard(guarded.IWhole, ran, None), guarded.IWhole).one()
    assert ran == []


@pytest.mark.parametrize("answer", ["yes", 1, None, ["ADMIN"]], ids=repr)
def test_only_true_permits(guarded: Any, serve: Serve, answer: object) -> None:
    target = guard(guarded.IWhole, [], set())
    type(target).has_permission = lambda self, name: answer
    with pytest.raises(RemoteException, match="SECURITY"):
        serve(target, guarded.IWhole).one()


@pytest.mark.parametrize("mode", FdMode)
def test_a_check_that_fails_permits_nothing_and_tells_the_server_why(
    guarded: Any, tmp_path: Path, mode: FdMode, capfd: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    target = guard(guarded.IWhole, ran, set())

    def fails(self: Any, name: str) -> bool:
        raise OSError("the table of users is gone")

    type(target).has_permission = fails
    with (
        Server(target, fd_modes=frozenset({mode})) as server,
        connect(server.start(unix(tmp_path / "sock")), fd_mode=mode) as session,
        pytest.raises(RemoteException, match=r"SECURITY: IWhole\.one: access denied") as caught,
    ):
        session.get_root(guarded.IWhole).one()
    assert "table of users" not in str(caught.value)
    assert "table of users" in capfd.readouterr().err
    assert ran == []


@pytest.mark.parametrize("allowed", [set(), {"ADMIN"}], ids=["nobody", "ADMIN"])
def test_calls_served_as_bytes_are_checked_like_others(
    guarded: Any, serve: Serve, allowed: set[str]
) -> None:
    ran: list[int] = []

    class Raw(guarded.IWhole, RawService, partial=True):  # type: ignore[misc]
        def transact(self, code: int, arguments: bytes) -> bytes:
            ran.append(code)
            return bytes(4) + b"\1\0\0\0"

        def has_permission(self, name: str) -> bool:
            return name in allowed

    proxy = serve(Raw(), guarded.IWhole)
    if allowed:
        assert proxy.one() == 1
        return
    with pytest.raises(RemoteException, match="SECURITY"):
        proxy.one()
    assert ran == []


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("@EnforcePermission void f();", "needs one of"),
        ('@EnforcePermission(allOf={"A"}, anyOf={"B"}) void f();', "needs one of"),
        ("@EnforcePermission(anyOf={}) void f();", "names no permission"),
        ('@EnforcePermission("") void f();', "names no permission"),
        ('@EnforcePermission("A") @RequiresNoPermission void f();', "exclude each other"),
    ],
)
def test_permissions_that_cannot_be_told(methods: str, message: str) -> None:
    with pytest.raises(AidlError, match=message):
        compile_text(f"package p; interface IFoo {{ {methods} }}")


def test_permission_on_an_interface_and_its_method() -> None:
    text = '@EnforcePermission("A") interface IFoo { @RequiresNoPermission void f(); }'
    with pytest.raises(AidlError, match="its methods have no @RequiresNoPermission"):
        compile_text(f"package p; {text}")


def test_elements_of_nullable_arrays_of_arrays() -> None:
    text = compile_text(
        "package p; parcelable L { @nullable String[2][3] names; @nullable IBinder[2][3][4] objects;"
        " @nullable int[2][3] numbers; }",
        "p/L.aidl",
    )
    flat = " ".join(text.split())
    assert "list[Annotated[list[str | None], FixedSize(3)]], FixedSize(2)]" in flat
    assert "list[Annotated[list[IBinder | None], FixedSize(4)]], FixedSize(3)]" in flat
    assert "list[Annotated[list[int], FixedSize(3)]], FixedSize(2)]" in flat


@pytest.mark.parametrize(
    "text",
    ["List<@nullable String> a;", "@nullable List<@nullable L> a;", "Box<@nullable String> a;"],
)
def test_type_arguments_are_not_nullable(text: str) -> None:
    with pytest.raises(AidlError, match="a type argument cannot be @nullable"):
        compile_text(
            f"package p; parcelable L {{ {text} }} parcelable Box<T> {{ int x; }}", "p/L.aidl"
        )


BUFFERS = [
    b"abcd",
    bytearray(b"abcd"),
    memoryview(b"abcd"),
    memoryview(b"abcd").cast("H"),
    memoryview(b"abcd").cast("I"),
    memoryview(b"a-b-c-d-")[::2],
    array.array("h", b"abcd"),
]


@pytest.mark.parametrize("value", BUFFERS)
def test_byte_arrays_from_buffers(value: Any) -> None:
    for annotation in (bytes, Annotated[bytes, FixedSize(4)]):
        parcel = Parcel()
        codec_for(annotation).write(parcel, value)
        assert bytes(parcel.data) == b"\4\0\0\0abcd"


@pytest.mark.parametrize("value", ["abcd", [1, 2], 4, None, {"a": 1}], ids=repr)
def test_byte_arrays_from_anything_else(value: Any) -> None:
    with pytest.raises(TypeError, match=f"bytes wanted, not {type(value).__name__}"):
        codec_for(bytes).write(Parcel(), value)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "x", "int wanted, not str"),
        (int, 1 << 31, "2147483648 is out of range for int"),
        (int, 1 << 100000, "a number of 100001 bits is out of range for int"),
        (float, None, "float wanted, not NoneType"),
        (str, b"x", "str wanted, not bytes"),
        (Byte, 200, "200 is out of range for byte"),
        (Byte, "x", "int wanted, not str"),
        (Char, 5, "str wanted, not int"),
        (Char, "ab", "a char is one UTF-16 unit"),
        (list[str], ["a", "b", 3], r"\[2\]: str wanted, not int"),
        (list[str], "abc", "list wanted, not str"),
        (list[int], 5, "list wanted, not int"),
        (list[int], [1, "x"], r"\[1\]: int wanted, not str"),
        (list[Byte], [1, 2, 128], r"\[2\]: 128 is out of range for byte"),
        (list[list[str]], [["a"], [None]], r"\[1\]\[0\]: str wanted, not NoneType"),
        (Annotated[list[str], FixedSize(2)], 7, "list wanted, not int"),
    ],
    ids=range(16),
)
def test_values_that_do_not_fit_are_explained(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}$"):
        codec_for(annotation).write(Parcel(), value)
