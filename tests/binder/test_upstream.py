"""What libbinder's own tests check and no other test here does; CHECKLIST.md lists them all."""

import gc
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avf.binder import (
    IBinder,
    Interface,
    RemoteException,
    Status,
    StatusError,
    interface_cast,
    link_to_death,
    method,
    ping,
    remote_descriptor,
    unlink_to_death,
)
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

from .conftest import Serve

HERE = Path(__file__).parent
NAMED = re.findall(r"`([\w./]+\.py)::(\w+)`", (HERE / "CHECKLIST.md").read_text())


def test_every_test_in_the_list_exists() -> None:
    assert len(NAMED) > 40
    for file, name in NAMED:
        assert re.search(rf"^def {name}\(", (HERE / file).read_text(), re.MULTILINE), name


def test_predefined_calls(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    ping(root)
    assert remote_descriptor(root) == "avf.test.IEcho"


def test_five_sessions_of_one_server(serve: Serve) -> None:
    served = serve()
    roots = [served.connect().get_root(IEcho) for _ in range(5)]
    assert served.server.sessions == 5
    assert [root.add_ints(1, 1) for root in roots] == [2] * 5


def test_long_strings(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    for text in ("", "x", "\U0001f600" * 3, "a" * 4096 + "\0" + "b" * 4096):
        assert root.echo_string(text) == text


def test_null_for_an_object(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    with pytest.raises(RemoteException, match=r"^ILLEGAL_STATE: IEcho\.return_null failed"):
        root.return_null()


def test_an_object_called_back_is_freed_afterwards(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    mine = Echo()
    assert root.call_back(mine, 1) == 1
    assert mine.released.wait(10)


def test_objects_sent_there_and_back_are_the_same(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    mine, theirs = Echo(), root.return_binder()
    assert root.echo_binder(mine) is mine
    assert root.echo_binder(theirs) is theirs
    assert root.echo_binder(None) is None
    again = root.echo_binder(root)
    assert again is not None
    assert interface_cast(IEcho, again) is root
    assert mine.released.wait(10)


def test_an_object_held_by_the_server(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    mine = Echo()
    root.hold_binder(mine)
    assert root.add_ints(1, 1) == 2
    assert not mine.released.is_set()
    assert root.get_held() is mine
    root.drop_held()
    assert mine.released.wait(10)
    assert root.get_held() is None


def test_objects_of_other_servers(serve: Serve) -> None:
    one, two = (serve().connect().get_root(IEcho) for _ in range(2))
    for binder in (two, two.return_binder()):
        with pytest.raises(StatusError) as raised:
            one.echo_binder(binder)
        assert raised.value.status == Status.INVALID_OPERATION
    assert one.add_ints(1, 1) == two.add_ints(1, 1)


def test_nested_calls_ten_deep(serve: Serve) -> None:
    root = serve().connect().get_root(IEcho)
    mine = Echo()
    assert root.nest(mine, 10) == 10
    assert mine.released.wait(10)


def test_a_oneway_call_does_not_wait(serve: Serve) -> None:
    root = serve(max_threads=2).connect().get_root(IEcho)
    start = time.monotonic()
    root.oneway_sleep_ms(300)
    assert time.monotonic() - start < 0.2


class ICallback(Interface, descriptor="avf.test.ICallback"):
    @method(1)
    def told(self, value: str) -> None: ...

    @method(2, oneway=True)
    def told_oneway(self, value: str) -> None: ...


class ICaller(Interface, descriptor="avf.test.ICaller"):
    @method(1)
    def call(self, callback: ICallback, oneway: bool, delayed: bool, value: str) -> None: ...

    @method(2, oneway=True)
    def call_oneway(self, callback: ICallback, oneway: bool, delayed: bool, value: str) -> None: ...


class Caller(ICaller):
    def __init__(self) -> None:
        self.timers: list[threading.Timer] = []

    def call(self, callback: ICallback, oneway: bool, delayed: bool, value: str) -> None:
        def tell() -> None:
            (callback.told_oneway if oneway else callback.told)(value)

        if delayed:
            self.timers.append(threading.Timer(0.01, tell))
            self.timers[-1].start()
        else:
            tell()

    def call_oneway(self, callback: ICallback, oneway: bool, delayed: bool, value: str) -> None:
        self.call(callback, oneway, delayed, value)


class Callback(ICallback):
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.event = threading.Event()

    def told(self, value: str) -> None:
        self.heard.append(value)
        self.event.set()

    told_oneway = told


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("oneway_callback", [False, True])
@pytest.mark.parametrize("oneway_call", [False, True])
def test_callbacks(serve: Serve, oneway_call: bool, oneway_callback: bool, delayed: bool) -> None:
    caller = Caller()
    root = serve(root=caller).connect(incoming_threads=1).get_root(ICaller)
    mine = Callback()
    call = root.call_oneway if oneway_call else root.call
    call(mine, oneway_callback, delayed, "this is a callback")
    assert mine.event.wait(10)
    assert mine.heard == ["this is a callback"]
    for timer in caller.timers:
        timer.join()


def test_oneway_calls_of_many_threads(serve: Serve) -> None:
    root = serve(max_threads=10).connect().get_root(IEcho)

    def work(thread: int) -> None:
        for i in range(500):
            root.append(thread * 1000 + i)

    with ThreadPoolExecutor(10) as pool:
        for _ in pool.map(work, range(10)):
            pass
    seen: list[int] = []
    while len(seen) < 5000:
        seen += root.get_appended()
    for thread in range(10):
        mine = [value for value in seen if value // 1000 == thread]
        assert mine == list(range(thread * 1000, thread * 1000 + 500))


def test_a_forgotten_session_with_incoming_threads(serve: Serve) -> None:
    served = serve(max_threads=2)
    session = served.connect(incoming_threads=2)
    root = session.get_root(IEcho)
    served_sessions = served.server.sessions
    assert (root.add_ints(1, 1), served_sessions) == (2, 1)
    session._root = None
    del root
    gc.collect()
    eventually(lambda: served.server.sessions, 0)
    eventually(lambda: session.closed, True)


def test_death_by_ones_own_hand(serve: Serve) -> None:
    session = serve().connect(incoming_threads=1)
    root = session.get_root(IEcho)
    dead: list[str] = []

    def unlinked() -> None:
        dead.append("unlinked")

    link_to_death(root, lambda: dead.append("linked"))
    link_to_death(root, unlinked)
    unlink_to_death(root, unlinked)
    session.close()
    assert dead == ["linked"]


def test_proxies_of_callbacks_say_what_they_are(serve: Serve) -> None:
    class Curious(Echo):
        def echo_binder(self, binder: IBinder | None) -> IBinder | None:
            assert binder is not None
            assert remote_descriptor(binder) == "avf.test.IEcho"
            ping(binder)
            return binder

    root = serve(root=Curious()).connect().get_root(IEcho)
    mine = Echo()
    assert root.echo_binder(mine) is mine
