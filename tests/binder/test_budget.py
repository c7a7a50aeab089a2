"""Budgets: how much a party may have beside the others, and that everything taken is given back."""

import os
import random
import resource
import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avf.binder import (
    PARTY_LIMITS,
    TOTAL_LIMITS,
    Budget,
    FdMode,
    Limits,
    Rate,
    connect,
    nobody,
    unix,
    wire,
)
from avf.binder.budget import CONNECTIONS, MEMORY, Account, OverBudget
from tests.eventually import eventually
from tests.interop.echo import Echo, IEcho

from .conftest import Serve
from .test_core import ROOT, oneway_body, transact_body, with_token
from .test_hostile import (
    HELLO,
    HELLO_UNIX,
    frame,
    read_exactly,
    read_reply,
    send_with_fds,
    special,
)


def budget(memory: int = 80, party: int = 1000, **options: object) -> Budget:
    limits = Limits(connections=1000, descriptors=1000, memory=party)
    total = Limits(connections=1000, descriptors=1000, memory=memory)
    return Budget(party=limits, total=total, **options)  # type: ignore[arg-type]


def fill(account: Account) -> int:
    """How much the account gets, one by one."""
    count = 0
    try:
        while True:
            account.take(MEMORY, 1)
            count += 1
    except OverBudget:
        return count


def test_a_party_has_its_own_bound() -> None:
    made = budget(memory=800, party=30)
    assert [fill(made.admit(name)) for name in "ab"] == [30, 30]


def test_no_party_has_more_than_is_left_for_others() -> None:
    """However many take all they can, the next one finds something; an eighth is kept for the privileged."""
    made = budget(memory=80)
    shares = [fill(made.admit(f"party {number}")) for number in range(6)]
    assert shares == [35, 18, 9, 4, 2, 1]
    assert fill(made.admit(0)) == 80 - sum(shares)


def test_the_error_names_the_party_and_the_amounts() -> None:
    account = budget(party=30).admit("guest 5")
    account.take(MEMORY, 20)
    text = "party 'guest 5' holds 20 bytes of memory and may not have 11 more"
    with pytest.raises(OverBudget, match=text):
        account.take(MEMORY, 11)
    assert account.used.memory == 20


def test_root_and_the_own_user_are_privileged() -> None:
    made = budget(party=1)
    assert [made.admit(uid).privileged for uid in (0, os.getuid())] == [True, True]
    others = [made.admit(party) for party in (os.getuid() + 1, "0", None, "root")]
    assert not any(account.privileged for account in others)
    assert not budget(privileged=nobody).admit(0).privileged


def test_at_most_half_of_the_open_files_become_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        made = Budget(total=TOTAL_LIMITS._replace(connections=4096))
        assert made.total[:2] == (512, 506)
        made.admit(1).take(1, wire.MAX_FDS)  # a frame's descriptors fit
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        made.admit(2)
        assert made.total.connections == min(4096, hard) // 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_rate_is_the_partys() -> None:
    now = [0.0]
    made = budget(calls=Rate(3, 2), privileged=nobody, clock=lambda: now[0])
    first, other = made.admit("a"), made.admit("b")
    assert made.admit("a") is first
    assert [first.call() for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert other.call() == 0
    now[0] += 1.1
    assert [first.call() > 0 for _ in range(4)] == [False, False, True, True]
    now[0] += 1000
    assert sum(first.call() == 0 for _ in range(10)) == 3


def test_accounts_that_hold_nothing_are_forgotten() -> None:
    now = [0.0]
    made = budget(calls=Rate(3, 2), clock=lambda: now[0])
    for number in range(10_000):
        made.admit(f"party {number}").give(CONNECTIONS, 1)
        now[0] += 10
    assert len(made.accounts()) <= 256
    assert tuple(made.used) == (0, 0, 0)


def test_a_party_that_has_used_its_rate_up_is_not_forgotten() -> None:
    made = budget(calls=Rate(1, 0.001), privileged=nobody, clock=lambda: 0.0)
    spent = made.admit("spent")
    assert spent.call() == 0
    spent.give(CONNECTIONS, 1)
    for number in range(1000):
        made.admit(number).give(CONNECTIONS, 1)
    assert made.admit("spent").call() > 0


# That everything is given back

RAW = st.sampled_from(
    [
        special(0),
        special(0)[:9],
        frame(wire.TRANSACT, transact_body(ROOT, 3, bytes(50_000)))[:30_000],
        frame(wire.TRANSACT, oneway_body(3, 3)),
        frame(wire.TRANSACT, oneway_body(0, 0)),
        frame(wire.TRANSACT, transact_body(ROOT, 3, with_token(bytes(4)))),
        wire.dec_strong(ROOT, 1),
        frame(7, b""),
    ]
)
STEPS = st.lists(
    st.one_of(
        RAW,
        st.sampled_from(["call", "object", "held", "descriptors", "large", "release"]),
    ),
    max_size=8,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sessions=st.lists(STEPS, min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_sessions_that_end_anyhow_give_everything_back(
    serve: Serve, sessions: list[list[bytes | str]], seed: int
) -> None:
    """Raw ones that are cut in the middle, and clients that are closed at any time, one step of each in turn."""
    made = Budget(party=PARTY_LIMITS, privileged=nobody)
    served = serve(budget=made, max_version=2)
    order = random.Random(seed)
    open_ones = [(steps, *_opened(served.path, order.random())) for steps in sessions]
    while open_ones:
        steps, raw, client = open_ones.pop(order.randrange(len(open_ones)))
        if not steps or order.random() < 0.1:
            raw.close()
            client.close()
            continue
        _step(steps[0], raw, client)
        open_ones.append((steps[1:], raw, client))
    eventually(lambda: tuple(made.used), (0, 0, 0))
    assert all(not any(account.used) for account in made.accounts())
    served.server.shutdown()


def _opened(path: object, choice: float) -> tuple[socket.socket, "_Client"]:
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(str(path))
    raw.sendall(HELLO if choice < 0.5 else HELLO_UNIX)
    raw.setblocking(False)
    return raw, _Client(path)


class _Client:
    """A client's session, whose steps may fail."""

    def __init__(self, path: object) -> None:
        self.session = connect(
            unix(str(path)), fd_mode=FdMode.UNIX, incoming_threads=1, max_version=2, timeout=10
        )
        self.account = self.session.endpoint.core.account
        self.root = self.session.get_root(IEcho)
        self.kept: list[object] = []

    def step(self, name: str) -> None:
        if name == "call":
            self.root.add_ints(1, 2)
        elif name == "object":
            self.kept.append(self.root.return_binder())
        elif name == "held":
            self.root.hold_binder(Echo())
        elif name == "descriptors":
            with self.root.open_file("/dev/null") as fd:
                self.root.read_fd(fd)
        elif name == "large":
            self.root.echo_bytes(bytes(500_000))
        else:
            self.kept.clear()

    def close(self) -> None:
        self.session.close()
        assert tuple(self.account.used) == (0, 0, 0)


def _step(step: bytes | str, raw: socket.socket, client: _Client) -> None:
    if isinstance(step, str):
        client.step(step)
        return
    try:
        if struct.unpack_from("<I", step)[0] == 7:
            send_with_fds(raw, step[:3], [0] * 9)
        raw.send(step)
    except OSError:
        pass


def test_what_lasts_leaves_something_for_what_is_under_way() -> None:
    """A party that has all the objects it may have can still have a frame under way."""
    made = budget(memory=8000, party=3200)
    account = made.admit("guest")
    lasting = 0
    with pytest.raises(OverBudget):
        while True:
            account.take(MEMORY, 1, lasting=True)
            lasting += 1
    assert lasting == 3200 - 100
    assert fill(account) == 100


def test_a_party_full_of_objects_is_answered_though_it_reads_late(serve: Serve) -> None:
    """Its replies, and the calls that are read meanwhile, find room beside the objects."""
    limits = Limits(connections=10, descriptors=10, memory=320_000)
    made = Budget(party=limits, privileged=nobody)
    served = serve(budget=made)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(served.path))
        sock.sendall(HELLO)
        read_exactly(sock, 8)
        sock.sendall(special(wire.SPECIAL_GET_ROOT))
        read_reply(sock)
        asked = frame(wire.TRANSACT, transact_body(ROOT, 4, with_token(b"")))
        (account,) = made.accounts()
        sock.sendall(asked * 300)  # makes objects until there is no room for more
        statuses = [struct.unpack_from("<i", read_reply(sock))[0] for _ in range(300)]
        assert set(statuses) == {0, -12}
        held = account.used.memory
        sock.sendall(asked * 1000)  # more than the socket takes of replies before they are read
        eventually(lambda: account.used.memory > held, True)
        assert {struct.unpack_from("<i", read_reply(sock))[0] for _ in range(1000)} == {-12}
