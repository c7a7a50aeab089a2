"""RPC Binder served by a native payload, called by avf.binder: every value, every end of a call, hostile parcels."""

import random
import signal
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.binder import (
    DeadObjectError,
    ExceptionCode,
    Float,
    Interface,
    Long,
    Parcel,
    Parcelable,
    RemoteException,
    Session,
    Status,
    StatusError,
    connect,
    method,
    ping,
    remote_descriptor,
    unix,
)
from avf.sdk import cflags
from tests.guest.native_host import NativeHost, native_host

SOURCE = Path(__file__).parent / "payload/kinds.c"
TOKEN = Parcel()
TOKEN.write_string("test.IKinds")
PARCELABLE = b"\1\0\0\0"
LIMIT = 100_000


class Numbers(Parcelable, descriptor="test.Numbers"):
    int32: int = 0
    int64: Long = 0
    boolean: bool = False
    single: Float = 0.0
    double: float = 0.0


class Record(Parcelable, descriptor="test.Record"):
    name: str = ""
    data: bytes = b""
    next: "Record | None" = None


class IKinds(Interface, descriptor="test.IKinds"):
    @method(1)
    def numbers(self, value: Numbers) -> Numbers:
        raise NotImplementedError

    @method(2)
    def text(self, value: str | None) -> str | None:
        raise NotImplementedError

    @method(3)
    def bytes_(self, value: bytes | None) -> bytes | None:
        raise NotImplementedError

    @method(4)
    def doubled(self, values: list[int]) -> list[Long]:
        raise NotImplementedError

    @method(5)
    def record(self, value: Record | None) -> Record | None:
        raise NotImplementedError

    @method(6)
    def fail(self, exception: int, error: int, message: str | None) -> None: ...

    @method(7)
    def long_reply(self, words: int) -> list[int]:
        raise NotImplementedError

    @method(8)
    def careless(self) -> None: ...

    @method(9)
    def meet(self) -> None: ...

    @method(10)
    def at_once(self) -> int:
        raise NotImplementedError

    @method(11)
    def abort(self) -> None: ...

    @method(12)
    def nothing(self) -> None: ...

    @method(13)
    def saved(self) -> int:
        raise NotImplementedError

    @method(14, oneway=True)
    def save(self, value: int) -> None: ...

    @method(15)
    def later_method(self) -> None: ...

    @method(16)
    def as_text(self, value: bytes) -> str:
        raise NotImplementedError


class IOther(Interface, descriptor="test.IOther"):
    @method(12)
    def nothing(self) -> None: ...


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeHost]:
    with native_host(tmp_path_factory.mktemp("native")) as host:
        yield host


@pytest.fixture(scope="module")
def payload(host: NativeHost) -> Path:
    return host.compile(SOURCE)


@pytest.fixture(scope="module")
def session(host: NativeHost, payload: Path) -> Iterator[Session]:
    with host.serving(payload), connect(unix(host.folder / "5000")) as session:
        yield session


@pytest.fixture
def other(tmp_path: Path) -> Iterator[NativeHost]:
    """A host of the test's own."""
    with native_host(tmp_path) as host:
        yield host


@pytest.fixture
def kinds(session: Session) -> IKinds:
    return session.get_root(IKinds)


def test_who_it_says_it_is(kinds: IKinds) -> None:
    ping(kinds)
    assert remote_descriptor(kinds) == "test.IKinds"


def test_numbers(kinds: IKinds) -> None:
    for value in (
        Numbers(),
        Numbers(int32=-(2**31), int64=-(2**63), boolean=True, single=-0.5, double=1e300),
        Numbers(int32=2**31 - 1, int64=2**63 - 1, single=2.0**-149, double=5e-324),
    ):
        assert kinds.numbers(value) == value


@pytest.mark.parametrize(
    "text", [None, "", "a", "ab", "\0a\0", "äöü", "日本", "a\U0001f600\U0010ffff", "\uffff" * 500]
)
def test_text(kinds: IKinds, text: str | None) -> None:
    assert kinds.text(text) == text


def test_text_that_is_not_unicode(kinds: IKinds) -> None:
    for text in ("\ud800", "a\udc00", "\ud800a", "\udc00\ud800"):
        with pytest.raises(StatusError) as caught:
            kinds.text(text)
        assert caught.value.status == Status.BAD_VALUE


def utf8_cases() -> Iterator[bytes]:
    """Many second bytes behind every first one, and random ones behind those that need more."""
    source = random.Random(1)
    for first in range(0x7F, 0x100):
        for second in range(0, 0x100, 13):
            yield bytes([first, second])
        for _ in range(10):
            yield bytes([first, *source.choices((0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF), k=3)])


def test_utf8_is_what_python_says_it_is(kinds: IKinds) -> None:
    good = 0
    for case in ["aä日😀\0".encode(), b"", b"\xe2\x82", *utf8_cases()]:
        try:
            text = case.decode()
        except UnicodeDecodeError:
            with pytest.raises(StatusError) as caught:
                kinds.as_text(case)
            assert caught.value.status == Status.BAD_VALUE
        else:
            assert kinds.as_text(case) == text
            good += 1
    assert good > 100


@pytest.mark.parametrize("size", [None, 0, 1, 3, 4, 5, 90_000])
def test_bytes(kinds: IKinds, size: int | None) -> None:
    value = None if size is None else random.Random(size).randbytes(size)
    assert kinds.bytes_(value) == value


def test_arrays(kinds: IKinds) -> None:
    assert kinds.doubled([]) == []
    assert kinds.doubled([1, -(2**31), 2**31 - 1]) == [2, -(2**32), 2**32 - 2]


def test_parcelables(kinds: IKinds) -> None:
    assert kinds.record(None) is None
    value = Record(name="outer", data=b"12345", next=Record(name="inner"))
    assert kinds.record(value) == value


@pytest.mark.parametrize("exception", [-1, -2, -3, -4, -5, -7, -8])
def test_exceptions(kinds: IKinds, exception: int) -> None:
    with pytest.raises(RemoteException) as caught:
        kinds.fail(exception, -77, "so it is")
    error = 0 if exception != ExceptionCode.SERVICE_SPECIFIC else -77
    assert (caught.value.code, caught.value.message) == (exception, "so it is")
    assert caught.value.service_specific == error
    with pytest.raises(RemoteException, match=ExceptionCode(exception).name):
        kinds.fail(exception, 0, None)


def test_statuses(kinds: IKinds) -> None:
    """What the function returns, what reading failed with although it did not care, and what nobody implements."""
    for call, status in (
        (kinds.nothing, Status.NAME_NOT_FOUND),
        (kinds.careless, Status.NOT_ENOUGH_DATA),
        (kinds.later_method, Status.UNKNOWN_TRANSACTION),
    ):
        with pytest.raises(StatusError) as caught:
            call()
        assert caught.value.status == status


def test_another_interface_is_refused(kinds: IKinds, session: Session) -> None:
    with pytest.raises(StatusError) as caught:
        session.get_root(IOther).nothing()
    assert caught.value.status == Status.BAD_TYPE


def test_oneway_calls(kinds: IKinds) -> None:
    for value in range(20):
        kinds.save(value)
    assert kinds.saved() == 19


@pytest.mark.parametrize("words", [LIMIT // 4, 200_000, 2**31 - 1])
def test_a_reply_that_is_too_long(kinds: IKinds, words: int) -> None:
    """More than the session carries, more than the library holds, more than there can be."""
    with pytest.raises(StatusError) as caught:
        kinds.long_reply(words)
    assert caught.value.status == Status.FAILED_TRANSACTION
    assert len(kinds.long_reply(20_000)) == 20_000


def transact(kinds: IKinds, code: int, body: bytes) -> bytes:
    """A call as bytes behind the interface token."""
    handle = kinds._remote
    assert handle is not None
    parcel = handle.remote.parcel()
    parcel.data += TOKEN.payload() + body
    reader = handle.remote.transact(handle, code, parcel)
    return bytes(reader.buf[reader.pos : reader.end])


@pytest.mark.parametrize(
    ("code", "body", "status"),
    [
        pytest.param(1, b"", Status.NOT_ENOUGH_DATA, id="no argument"),
        pytest.param(1, b"\0\0\0\0", Status.UNEXPECTED_NULL, id="null parcelable"),
        pytest.param(1, PARCELABLE + b"\3\0\0\0", Status.BAD_VALUE, id="parcelable too short"),
        pytest.param(1, PARCELABLE + b"\5\0\0\0" * 2, Status.BAD_VALUE, id="odd parcelable"),
        pytest.param(1, PARCELABLE + b"\xff" * 4, Status.BAD_VALUE, id="negative parcelable"),
        pytest.param(1, PARCELABLE + b"\xfc\xff\xff\x7f", Status.NOT_ENOUGH_DATA, id="cut"),
        pytest.param(1, PARCELABLE + b"\4\0\0\0", Status.NOT_ENOUGH_DATA, id="no fields"),
        pytest.param(2, b"\1\0\0\0a\0\1\0", Status.UNEXPECTED_NULL, id="text without NUL"),
        pytest.param(2, b"\2\0\0\0a\0b\0", Status.NOT_ENOUGH_DATA, id="text without room for NUL"),
        pytest.param(2, b"\xff\xff\xff\x7f" + bytes(8), Status.BAD_VALUE, id="text too long"),
        pytest.param(3, b"\5\0\0\0abcd", Status.BAD_VALUE, id="bytes too long"),
        pytest.param(4, b"\xff\xff\xff\xff", Status.UNEXPECTED_NULL, id="null array"),
        pytest.param(4, b"\0\0\0\x40" + bytes(8), Status.BAD_VALUE, id="array too long"),
        pytest.param(4, b"\0\0\0\0" + bytes(4), Status.BAD_VALUE, id="more than was read"),
        pytest.param(12, b"\0\0\0", Status.NAME_NOT_FOUND, id="not looked at"),
    ],
)
def test_hostile_parcels(kinds: IKinds, code: int, body: bytes, status: Status) -> None:
    with pytest.raises(StatusError) as caught:
        transact(kinds, code, body)
    assert caught.value.status == status
    assert kinds.text("still there") == "still there"


def test_fields_of_other_versions(kinds: IKinds) -> None:
    """An older caller leaves out the last field, a newer one has more."""
    name, data = b"\1\0\0\0a\0\0\0", b"\0\0\0\0"
    known = b"\0\0\0\0" + PARCELABLE + struct.pack("<i", 4 + 16) + name + data + bytes(4)
    older = PARCELABLE + struct.pack("<i", 4 + 12) + name + data
    newer = PARCELABLE + struct.pack("<i", 4 + 20) + name + data + bytes(8)
    assert transact(kinds, 5, older) == known
    assert transact(kinds, 5, newer) == known


def test_calls_of_several_sessions_come_one_at_a_time(other: NativeHost) -> None:
    with other.serving(other.compile(SOURCE)):
        assert set(call_at_once(other, lambda kinds: [kinds.at_once() for _ in range(50)])) == {1}


def test_calls_of_several_sessions_at_once_if_asked_for(other: NativeHost) -> None:
    """Each of two calls ends when it has met the other."""
    with other.serving(other.compile(SOURCE, "-DFLAGS=AVF_RPC_CONCURRENT")):
        assert call_at_once(other, lambda kinds: [kinds.meet()]) == [None, None]


def call_at_once(host: NativeHost, call: object) -> list[object]:
    """What `call` gives in two sessions, from a thread each."""
    results: list[object] = []

    def run() -> None:
        with connect(unix(host.folder / "5000")) as session:
            results.extend(call(session.get_root(IKinds)))  # type: ignore[operator]

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_crash_is_the_payloads_own(other: NativeHost) -> None:
    with (
        other.serving(other.compile(SOURCE)) as process,
        connect(unix(other.folder / "5000")) as session,
        pytest.raises(DeadObjectError),
    ):
        session.get_root(IKinds).abort()
    assert process.returncode == -signal.SIGABRT


def test_nothing_is_read_or_written_beside_its_place(tmp_path: Path) -> None:
    """Calls that are cut off, changed and made up, served by a build that aborts at any misuse of memory."""
    harness = tmp_path / "harness"
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", "-g", "-DHARNESS", *sanitize, *cflags(), "-o", harness, SOURCE]
    subprocess.run(command, check=True)
    calls = list(hostile_calls(random.Random(1)))
    done = subprocess.run(
        [harness],
        input=b"".join(struct.pack("<II", code, len(body)) + body for code, body in calls),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    statuses = [int(line) for line in done.stdout.split()]
    assert len(statuses) == len(calls)
    kinds = {Status.OK, Status.BAD_VALUE, Status.NOT_ENOUGH_DATA, Status.UNEXPECTED_NULL}
    assert set(statuses) == kinds


def hostile_calls(source: random.Random) -> Iterator[tuple[int, bytes]]:
    """Transaction codes and arguments: the good ones, every prefix of them, and thousands with bytes changed."""
    parcel = Parcel()
    parcel.write_string("a\U0001f600ä")
    text = parcel.payload()
    record = PARCELABLE + struct.pack("<i", 4 + len(text) + 8 + 4) + text + b"\2\0\0\0ab\0\0"
    good = {
        1: PARCELABLE + struct.pack("<iiqifd", 4 + 28, 1, 2, 1, 0.5, 0.25),
        2: text,
        3: b"\5\0\0\0abcde\0\0\0",
        4: struct.pack("<iii", 2, 1, 2),
        5: record + record + bytes(4),
        6: struct.pack("<ii", -8, 5) + text,
        7: b"\5\0\0\0",
        8: bytes(8),
        16: b"\7\0\0\0a\xc3\xa4\xf0\x9f\x98\x80\0",
    }
    interesting = (0, 1, 3, 4, 0x7F, 0x80, 0xC0, 0xD8, 0xDC, 0xFC, 0xFF)
    for code, body in good.items():
        yield code, body
        for size in range(len(body)):
            yield code, body[:size]
        for _ in range(1000 if code != 7 else 0):  # whose number is only that of what is written
            changed = bytearray(body)
            for _ in range(source.randint(1, 4)):
                changed[source.randrange(len(changed))] = source.choice(interesting)
            yield code, bytes(changed)
