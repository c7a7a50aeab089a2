"""The session core alone: two ends in one process, frames carried by hand."""

import gc
import os
import struct
from typing import Any

import pytest

from avf.binder import (
    DeadObjectError,
    IBinder,
    ProtocolError,
    RemoteException,
    Status,
    StatusError,
    interface_cast,
    wire,
)
from avf.binder.budget import MEMORY
from avf.binder.dispatch import execute
from avf.binder.methods import Method
from avf.binder.objects import Handle
from avf.binder.parcel import Parcel, ParcelReader
from avf.binder.refs import CALL_COST
from avf.binder.session import Frame, SessionCore
from tests.interop.echo import Echo, IEcho

METHODS = IEcho._contract.methods()  # type: ignore[union-attr]


def frames(data: bytes | bytearray | memoryview) -> list[tuple[int, bytes]]:
    """Commands and bodies."""
    raw = bytes(data)
    found = []
    while raw:
        command, size = struct.unpack_from("<II", raw)
        found.append((command, raw[16 : 16 + size]))
        raw = raw[16 + size :]
    return found


class End:
    """A session end whose calls the test carries."""

    def __init__(self, *, server: bool, version: int = 1, root: IBinder | None = None) -> None:
        self.core = SessionCore(
            server=server, version=version, max_threads=3, session_id=b"s" * 32, root=lambda: root
        )
        self.core.remote = self  # type: ignore[assignment]
        self.log: list[tuple[int, bytes]] = []
        self.peer: End

    ended = False

    def parcel(self) -> Parcel:
        return self.core.request_parcel()

    def call(self, handle: Handle, method: Method, args: tuple[Any, ...]) -> Any:
        parcel = self.parcel()
        method.write_arguments(parcel, args)
        if method.oneway:
            self.post(handle, method.code, parcel)
            return None
        return method.read_result(self.transact(handle, method.code, parcel))

    def post(self, handle: Handle, code: int, parcel: Parcel) -> None:
        self.peer.take(self.core.request(handle, code, parcel, oneway=True).data, self)

    def transact(self, handle: Handle | None, code: int, parcel: Parcel) -> ParcelReader:
        frame = self.core.request(handle, code, parcel, oneway=False)
        reply = self.peer.take(frame.data, self)
        assert reply is not None
        return self.core.answer(reply, None)

    def release(self, handle: Handle) -> None:
        self.core.release(handle)

    def take(self, data: bytes | bytearray | memoryview, sender: "End") -> bytes | None:
        """Serves what came; the body of the reply to a sync call."""
        for command, body in frames(data):
            self.log.append((command, body))
            if command == wire.DEC_STRONG:
                self.core.dec_strong(body)
                continue
            if command == wire.REPLY:
                return body
            call = self.core.receive(body, None)
            while call is not None:
                result = execute(self.core, call)
                if not call.oneway:
                    return sender.take(self.core.finish(call.node, result).data, self)
                call = self.core.next_oneway(call)
        return None

    def give_back(self) -> None:
        self.peer.take(self.core.returns(), self)
        self.core.drained()
        self.core.tell_released()

    def counts(self) -> dict[int, tuple[int, int]]:
        return {
            key: (node.times_sent, node.times_received)
            for key, node in self.core.table.nodes.items()
        }

    def special(self, code: int) -> ParcelReader:
        return self.transact(None, code, self.parcel())


Pair = tuple[End, End]


def pair(version: int = 1) -> Pair:
    client, server = End(server=False, version=version), End(server=True, version=version)
    client.peer, server.peer = server, client
    return client, server


def with_root(root: IBinder, version: int = 1) -> tuple[End, End, IEcho]:
    client, server = pair(version)
    server.core.root = lambda: root
    binder = client.special(wire.SPECIAL_GET_ROOT).read_binder()
    assert binder is not None
    return client, server, interface_cast(IEcho, binder)


ROOT = wire.address(0, for_server=True)
CALLBACK = wire.address(0, for_server=False)


@pytest.mark.parametrize("version", [0, 1])
def test_special_transactions(version: int) -> None:
    client, server = pair(version)
    assert client.special(wire.SPECIAL_GET_MAX_THREADS).read_int() == 3
    assert client.special(wire.SPECIAL_GET_SESSION_ID).read_bytes() == b"s" * 32
    assert client.special(wire.SPECIAL_GET_ROOT).read_binder() is None
    with pytest.raises(StatusError) as raised:
        client.special(3)
    assert raised.value.status == Status.UNKNOWN_TRANSACTION
    assert server.special(wire.SPECIAL_GET_MAX_THREADS).read_int() == 3
    assert server.special(wire.SPECIAL_GET_ROOT).remaining() == 0
    assert server.special(99).remaining() == 0


def test_frames_of_a_call() -> None:
    client, server, root = with_root(Echo())
    client.log.clear()
    server.log.clear()
    assert root.add_ints(2, 3) == 5
    [(command, body)] = server.log
    assert command == wire.TRANSACT
    token = bytes.fromhex("0e000000") + "avf.test.IEcho".encode("utf-16-le") + bytes(4)
    assert body[:24].hex() == "0300000000000000" + "02000000" + "00000000" + "00" * 8
    assert struct.unpack_from("<I12x", body, 24) == (len(token) + 8,)
    assert body[40:] == token + struct.pack("<ii", 2, 3)
    returned, reply = client.log
    assert returned == (wire.DEC_STRONG, bytes.fromhex("0300000000000000" + "01000000" + "00" * 4))
    assert reply == (
        wire.REPLY,
        bytes.fromhex("00000000" + "08000000" + "00" * 12 + "0000000005000000"),
    )


def test_frames_of_version_0() -> None:
    client, _, root = with_root(Echo(), version=0)
    client.log.clear()
    assert root.add_ints(2, 3) == 5
    assert client.log[1] == (wire.REPLY, bytes.fromhex("00000000" + "0000000005000000"))


def test_counts_after_calls_are_those_of_the_root_alone() -> None:
    client, server, root = with_root(Echo())
    mine = Echo()
    for _ in range(3):
        assert root.echo_binder(mine) is mine
        assert root.echo_binder(root) == root
        root.append(1)
    for end in (client, server):
        end.give_back()
    gc.collect()
    for end in (server, client):
        end.give_back()
    assert list(server.counts()) == list(client.counts()) == [ROOT]
    sent, received = server.counts()[ROOT]
    assert client.counts()[ROOT] == (received, sent) == (0, sent)
    assert mine.released.is_set()


def test_what_was_received_several_times_is_given_back_at_once() -> None:
    client, server, root = with_root(Echo())
    theirs = [root.return_binder() for _ in range(2)]
    echo = theirs[0]
    for _ in range(4):
        assert root.echo_binder(echo) == echo
    server.log.clear()
    key = wire.address(1, for_server=True)
    assert client.counts()[key] == (0, 5)
    del theirs, echo
    client.give_back()
    amounts = {struct.unpack("<QI4x", body) for _, body in server.log}
    assert amounts == {(key, 5), (wire.address(2, for_server=True), 1)}
    assert list(server.counts()) == [ROOT]


def test_addresses_are_never_reused_by_accident() -> None:
    client, _, root = with_root(Echo())
    first = root.return_binder()
    del first
    client.give_back()
    second = root.return_binder()
    assert second._remote is not None
    assert second._remote.node.address == wire.address(2, for_server=True)


def test_object_kept_by_the_peer_lives_and_dies_with_its_proxy() -> None:
    _, server, root = with_root(Echo())
    mine = Echo()
    root.hold_binder(mine)
    assert not mine.released.is_set()
    root.drop_held()
    server.give_back()
    client_end = server.peer
    client_end.core.tell_released()
    assert mine.released.is_set()


def test_released_proxies_are_dead_and_new_ones_are_not() -> None:
    client, server, root = with_root(Echo())
    mine = root.return_binder()
    assert mine._remote is not None
    client.release(mine._remote)
    client.give_back()
    with pytest.raises(DeadObjectError):
        interface_cast(IEcho, mine).add_ints(1, 1)
    assert root.add_ints(1, 1) == 2
    assert list(server.counts()) == [ROOT]


def test_losing_the_last_object_ends_the_session_on_both_sides() -> None:
    client, server, root = with_root(Echo())
    del root
    gc.collect()
    server.take(client.core.returns(), client)
    assert client.core.drained()
    assert server.core.drained()


def test_a_session_that_never_knew_an_object_goes_on() -> None:
    client, server = pair()
    client.special(wire.SPECIAL_GET_MAX_THREADS)
    assert not client.core.drained()
    assert not server.core.drained()


def test_excessive_and_unknown_returns_are_ignored() -> None:
    client, server, root = with_root(Echo())
    before = server.counts()
    for key, amount in ((ROOT, 2), (ROOT, 0xFFFF_FFFF), (ROOT, 0), (CALLBACK, 1), (77, 1)):
        server.core.dec_strong(struct.pack("<QI4x", key, amount))
    assert server.counts() == before
    assert root.add_ints(1, 1) == 2
    with pytest.raises(ProtocolError):
        server.core.dec_strong(bytes(12))
    assert client.counts() == {ROOT: (0, 1)}


def oneway_body(number: int, value: int, key: int = ROOT) -> bytes:
    parcel = Parcel(bytes(56), 56)
    METHODS[19].write_arguments(parcel, (value,))
    wire.TRANSACT_FRAME.pack_into(
        parcel.data, 0, 0, 0, key, 19, wire.FLAG_ONEWAY, number, len(parcel)
    )
    return bytes(parcel.data[16:])


def run_oneway(end: End, body: bytes) -> None:
    call = end.core.receive(body, None)
    while call is not None:
        execute(end.core, call)
        call = end.core.next_oneway(call)


def test_oneway_calls_run_in_the_order_of_their_numbers() -> None:
    echo = Echo()
    _, server, _root = with_root(echo)
    for number in (2, 1, 4, 0, 0, 3):
        run_oneway(server, oneway_body(number, number * 10))
    assert echo.appended == [0, 10, 20, 30, 40]


def test_oneway_calls_that_wait_for_a_gap_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_QUEUED_ONEWAY", 10)
    _, server, _root = with_root(Echo())
    for number in range(1, 11):
        run_oneway(server, oneway_body(number, 0))
    with pytest.raises(ProtocolError, match="10 oneway calls are waiting"):
        run_oneway(server, oneway_body(11, 0))


def test_oneway_calls_that_wait_may_not_take_all_memory() -> None:
    echo = Echo()
    _, server, _root = with_root(echo)
    account = server.core.account
    size = CALL_COST + len(oneway_body(0, 0))
    others = account.budget.party.memory - account.used.memory - 3 * size
    account.take(MEMORY, others)
    for number in (1, 2, 3, 0, 6, 5, 5):
        run_oneway(server, oneway_body(number, number))
    assert echo.appended == [0, 1, 2, 3]
    with pytest.raises(ProtocolError, match=f"party 'peer' .* may not have {size} more"):
        run_oneway(server, oneway_body(7, 7))
    server.core.end()
    assert account.used.memory == others


def test_objects_of_queued_oneway_calls_are_not_given_back_before_they_ran() -> None:
    echo = Echo()
    _, server, root = with_root(echo)
    assert server.core.receive(oneway_body(1, 1), None) is None
    root.add_ints(1, 1)
    assert server.counts()[ROOT][1] == 2
    run_oneway(server, oneway_body(0, 0))
    server.core.returns()
    assert server.counts()[ROOT][1] == 0
    assert echo.appended == [0, 1]


def transact_body(key: int, code: int, parcel: bytes, size: int | None = None) -> bytes:
    return struct.pack("<QIIQI12x", key, code, 0, 0, len(parcel) if size is None else size) + parcel


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (bytes(39), "TRANSACT of 39 bytes"),
        (transact_body(CALLBACK, 1, b""), "not known here"),
        (transact_body(ROOT, 1, b"", size=4), "parcel of 4 bytes"),
        (transact_body(ROOT, 1, b"12345678", size=2), "parcel of 2 bytes"),
        (transact_body(0xFFFF_FFFF_0000_0003, 1, b""), "not known here"),
    ],
)
def test_calls_that_end_the_session(body: bytes, text: str) -> None:
    _, server, _root = with_root(Echo())
    with pytest.raises(ProtocolError, match=text):
        server.core.receive(body, None)


def status_of(server: End, body: bytes) -> int:
    call = server.core.receive(body, None)
    assert call is not None
    frame: Frame = server.core.finish(call.node, execute(server.core, call))
    reply = frames(frame.data)[-1]
    assert reply[0] == wire.REPLY
    status: int = struct.unpack_from("<i", reply[1])[0]
    return status


def with_token(parcel: bytes) -> bytes:
    return METHODS[1].token + parcel


def binder(presence: int, key: int, stability: int) -> bytes:
    return struct.pack("<iQi", presence, key, stability)


@pytest.mark.parametrize(
    ("code", "parcel", "status"),
    [
        (1, b"", Status.BAD_TYPE),
        (1, b"\0" * 40, Status.BAD_TYPE),
        (1337, b"", Status.UNKNOWN_TRANSACTION),
        (0xFFFF_FFFF, b"", Status.UNKNOWN_TRANSACTION),
        (2, with_token(b"\1\0\0\0"), Status.NOT_ENOUGH_DATA),
        (3, with_token(b"\xff\xff\xff\x7f"), Status.BAD_VALUE),
        (16, with_token(binder(1, CALLBACK, 0)), Status.BAD_TYPE),
        (16, with_token(binder(1, CALLBACK, 13)), Status.BAD_TYPE),
        (16, with_token(binder(1, CALLBACK | 4, 12)), Status.BAD_VALUE),
        (16, with_token(binder(1, 0, 12)), Status.BAD_VALUE),
        (16, with_token(binder(1, wire.address(9, for_server=True), 12)), Status.BAD_VALUE),
        (16, with_token(binder(1, ROOT, 63)), Status.BAD_TYPE),
        (16, with_token(struct.pack("<ii", 0, 12)), Status.BAD_TYPE),
        (16, with_token(binder(1, CALLBACK, 12)[:8]), Status.NOT_ENOUGH_DATA),
        (wire.PING, b"whatever", Status.OK),
        (wire.SHELL, b"", Status.OK),
        (wire.SYSPROPS, b"", Status.INVALID_OPERATION),
        (wire.SET_RPC_CLIENT, b"", Status.INVALID_OPERATION),
    ],
)
def test_calls_that_only_fail(code: int, parcel: bytes, status: Status) -> None:
    _, server, root = with_root(Echo())
    assert status_of(server, transact_body(ROOT, code, parcel)) == status
    assert root.add_ints(1, 1) == 2


@pytest.mark.parametrize(
    ("code", "parcel", "reply"),
    [
        (1, with_token(b"\xff\xff\xff\xff"), "fcffffff 00000000 00000000 00000000"),
        (5, with_token(bytes(12)), "fcffffff 00000000 00000000 00000000"),
        (wire.INTERFACE, b"", METHODS[1].token.hex()),
        (wire.EXTENSION, b"", "0000000000000000"),
        (2, with_token(struct.pack("<iiq", 1, 2, 3)), None),
    ],
)
def test_answers_with_and_without_exceptions(code: int, parcel: bytes, reply: str | None) -> None:
    _, server, _root = with_root(Echo())
    call = server.core.receive(transact_body(ROOT, code, parcel), None)
    assert call is not None
    result = execute(server.core, call)
    assert isinstance(result, Parcel)
    if reply is not None:
        assert result.payload() == bytes.fromhex(reply)
    else:
        reader = ParcelReader(result.payload())
        assert reader.read_int() == -2
        assert reader.read_string() == "Parcel data not fully consumed, unread size: 8"


@pytest.mark.parametrize("stability", [wire.Stability.VENDOR, wire.Stability.VINTF])
def test_a_proxy_goes_back_with_the_stability_it_came_with(stability: int) -> None:
    _, server, _root = with_root(Echo())
    body = transact_body(ROOT, 16, with_token(binder(1, CALLBACK, stability)))
    call = server.core.receive(body, None)
    assert call is not None
    result = execute(server.core, call)
    assert isinstance(result, Parcel)
    assert result.payload() == bytes(4) + binder(1, CALLBACK, stability)


def test_a_proxy_whose_stability_changes_is_refused() -> None:
    echo = Echo()
    _, server, _root = with_root(echo)
    body = transact_body(ROOT, 11, with_token(binder(1, CALLBACK, 12)))
    assert status_of(server, body) == Status.OK
    assert echo.held is not None
    changed = transact_body(ROOT, 11, with_token(binder(1, CALLBACK, 63)))
    assert status_of(server, changed) == Status.BAD_TYPE


@pytest.mark.parametrize("stability", [0, 13])
def test_an_object_refused_for_its_stability_is_given_back(stability: int) -> None:
    _, server, _root = with_root(Echo())
    body = transact_body(ROOT, 11, with_token(binder(1, CALLBACK, stability)))
    call = server.core.receive(body, None)
    assert call is not None
    frame = server.core.finish(call.node, execute(server.core, call))
    assert wire.dec_strong(CALLBACK, 1) in bytes(frame.data)
    assert server.counts() == {ROOT: (1, 0)}


def test_an_object_refused_for_another_stability_is_given_back_with_the_rest() -> None:
    echo = Echo()
    _, server, _root = with_root(echo)
    for stability, status in ((12, Status.OK), (63, Status.BAD_TYPE)):
        body = transact_body(ROOT, 11, with_token(binder(1, CALLBACK, stability)))
        assert status_of(server, body) == status
    echo.held = None
    assert server.core.returns() == wire.dec_strong(CALLBACK, 2)


def test_an_own_object_refused_for_its_stability_is_given_back() -> None:
    _, server, _root = with_root(Echo())
    refused = transact_body(ROOT, 16, with_token(binder(1, ROOT, 63)))
    assert status_of(server, refused) == Status.BAD_TYPE
    assert server.counts() == {ROOT: (1, 0)}


class Stable(Echo, stability=wire.Stability.VINTF):
    pass


def test_objects_go_out_with_the_stability_of_their_interface() -> None:
    echo = Echo()
    _, server, root = with_root(echo)
    parcel = server.core.reply_parcel()
    parcel.write_binder(Stable())
    assert parcel.payload() == binder(1, wire.address(1, for_server=True), 63)
    own = Stable()
    echo.held = own
    taken = root.get_held()
    assert taken is not None
    assert root.echo_binder(taken) == taken


def answer(client: End, body: bytes) -> ParcelReader:
    return client.core.answer(body, None)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (bytes(19), ProtocolError),
        (struct.pack("<iI12x", 0, 8) + bytes(4), ProtocolError),
        (struct.pack("<iI12x", 0, 3) + bytes(4), ProtocolError),
        (struct.pack("<iI12x", -32, 0), DeadObjectError),
        (struct.pack("<iI12x", -12345, 0) + b"ignored", StatusError),
        (struct.pack("<iI12x", 0, 4) + bytes(8), StatusError),
    ],
)
def test_replies_that_fail(body: bytes, error: type[Exception]) -> None:
    client, _ = pair()
    with pytest.raises(error):
        answer(client, body)


def status_header(*parts: bytes) -> ParcelReader:
    return ParcelReader(b"".join(parts))


def text(value: str) -> bytes:
    parcel = Parcel()
    parcel.write_string(value)
    return parcel.payload()


def test_reply_headers_of_java_servers_are_skipped() -> None:
    reader = status_header(struct.pack("<iiii", -128, 12, 7, 7), struct.pack("<i", 5))
    assert METHODS[2].read_result(reader) == 5


def test_stack_traces_are_skipped() -> None:
    raw = struct.pack("<i", -8), text("m"), struct.pack("<iii", 12, 1, 2), struct.pack("<i", -77)
    with pytest.raises(Exception, match=r"SERVICE_SPECIFIC\(-77\): m"):
        METHODS[2].read_result(status_header(*raw))


@pytest.mark.parametrize("size", [-1, 3, 100])
def test_impossible_header_sizes(size: int) -> None:
    with pytest.raises(StatusError):
        METHODS[2].read_result(status_header(struct.pack("<ii", -128, size)))


def test_replies_beyond_the_limit_become_errors() -> None:
    class Big(Echo):
        def echo_bytes(self, value: bytes) -> bytes:
            return bytes(int.from_bytes(value, "little"))

    _, _, root = with_root(Big())
    fits = wire.MAX_BODY - 8
    assert len(root.echo_bytes(fits.to_bytes(4, "little"))) == fits
    with pytest.raises(StatusError) as raised:
        root.echo_bytes((fits + 4).to_bytes(4, "little"))
    assert raised.value.status == Status.FAILED_TRANSACTION
    assert root.add_ints(1, 1) == 2


def test_objects_in_replies_that_are_not_sent_are_not_counted() -> None:
    class Odd(Echo):
        def echo_binder(self, binder: IBinder | None) -> IBinder | None:
            return "no binder"  # type: ignore[return-value]

    _, server, root = with_root(Odd())
    with (
        pytest.raises(RemoteException, match=r"ILLEGAL_STATE: IEcho.echo_binder failed"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("avf.binder.dispatch.report", lambda error: None)
        root.echo_binder(None)
    assert server.counts() == {ROOT: (1, 0)}


def test_requests_beyond_the_limit_are_not_sent() -> None:
    client, server, root = with_root(Echo())
    before = client.counts()
    server.log.clear()
    with pytest.raises(StatusError) as raised:
        root.echo_bytes(bytes(wire.MAX_BODY))
    assert raised.value.status == Status.FAILED_TRANSACTION
    assert server.log == []
    assert client.counts() == before


def test_too_many_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avf.binder.refs.MAX_BINDERS", 3)
    _, _, root = with_root(Echo())
    kept = [root.return_binder() for _ in range(2)]
    with pytest.raises(StatusError) as raised:
        root.return_binder()
    assert raised.value.status == Status.NO_MEMORY
    assert len(kept) == 2


def test_an_ended_session_refuses_everything() -> None:
    client, _, root = with_root(Echo())
    told: list[int] = []
    assert root._remote is not None
    root._remote.recipients.append(lambda: told.append(1))
    handles = client.core.lose()
    assert handles is not None
    client.core.tell_dead(handles)
    client.core.tell_dead(handles)
    assert told == [1]
    assert client.core.lose() is None
    assert client.core.end()
    assert not client.core.end()
    with pytest.raises(DeadObjectError):
        root.add_ints(1, 2)
    assert client.counts() == {}


def test_oneway_numbers_go_on_when_an_object_comes_again_before_its_return_arrived() -> None:
    shop, sold = Echo(), Echo()
    client, server, root = with_root(shop)
    shop.held = sold
    for value in (1, 2):
        taken = root.get_held()
        assert taken is not None
        interface_cast(IEcho, taken).append(value)
        server.give_back()
        del taken
    late = client.core.returns()
    again = root.get_held()
    assert again is not None
    interface_cast(IEcho, again).append(3)
    server.take(late, client)
    interface_cast(IEcho, again).append(4)
    assert sold.appended == [1, 2, 3, 4]


def test_descriptors_in_a_reply_of_version_0_are_closed() -> None:
    """Which has no object table that could name them."""
    client, _, _ = with_root(Echo(), version=0)
    fd = os.open("/dev/null", os.O_RDONLY)
    client.core.answer(struct.pack("<ii", 0, 5), [fd]).close()
    with pytest.raises(OSError):
        os.fstat(fd)
