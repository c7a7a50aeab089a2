"""Reference counting against a model: who holds what, with returns that arrive whenever they like."""

import gc
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from avf.binder import IBinder, interface_cast
from tests.interop.echo import Echo, IEcho

from .test_core import ROOT, End, with_root

SLOTS = range(4)


class Shop(Echo):
    """A root that keeps what it is given in slots, and gives out objects of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, IBinder] = {}
        self.own: dict[int, Echo] = {}

    def echo_binder(self, binder: IBinder | None) -> IBinder | None:
        return binder


class References(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shop = Shop()
        self.client, self.server, self.root = with_root(self.shop)
        self.mine: dict[int, Echo] = {}
        """The client's objects, by slot; the shop may keep each."""
        self.theirs: dict[int, IEcho] = {}
        """The client's proxies of the shop's objects."""
        self.on_the_way: list[tuple[End, bytes]] = []
        self.appended: dict[int, int] = {}

    def send_returns(self, end: End) -> None:
        frames = end.core.returns()
        for start in range(0, len(frames), 32):
            self.on_the_way.append((end.peer, frames[start : start + 32]))

    @rule(slot=st.sampled_from(SLOTS))
    def give_mine_to_the_shop(self, slot: int) -> None:
        mine = self.mine.setdefault(slot, Echo())
        self.root.hold_binder(mine)
        held = self.shop.held
        assert held is not None
        self.shop.kept[slot] = held
        self.shop.held = None

    @rule(slot=st.sampled_from(SLOTS))
    def shop_drops(self, slot: int) -> None:
        self.shop.kept.pop(slot, None)

    @rule(slot=st.sampled_from(SLOTS))
    def get_mine_back(self, slot: int) -> None:
        if slot in self.shop.kept:
            self.shop.held = self.shop.kept[slot]
            assert self.root.get_held() is self.mine[slot]
            self.shop.held = None

    @rule(slot=st.sampled_from(SLOTS))
    def shop_calls(self, slot: int) -> None:
        if slot in self.shop.kept:
            assert interface_cast(IEcho, self.shop.kept[slot]).add_ints(slot, 1) == slot + 1

    @rule(slot=st.sampled_from(SLOTS))
    def take_theirs(self, slot: int) -> None:
        self.shop.held = self.shop.own.setdefault(slot, Echo())
        taken = self.root.get_held()
        self.shop.held = None
        assert taken is not None
        known = self.theirs.setdefault(slot, interface_cast(IEcho, taken))
        assert known == taken

    @rule(slot=st.sampled_from(SLOTS))
    def drop_theirs(self, slot: int) -> None:
        self.theirs.pop(slot, None)

    @rule(slot=st.sampled_from(SLOTS))
    def call_theirs(self, slot: int) -> None:
        if slot in self.theirs:
            assert self.theirs[slot].add_ints(slot, 2) == slot + 2
            assert self.root.echo_binder(self.theirs[slot]) == self.theirs[slot]

    @rule(slot=st.sampled_from(SLOTS))
    def call_theirs_oneway(self, slot: int) -> None:
        if slot in self.theirs:
            count = self.appended[slot] = self.appended.get(slot, 0) + 1
            self.theirs[slot].append(count)
            assert len(self.shop.own[slot].appended) == count

    @rule()
    def client_returns(self) -> None:
        self.send_returns(self.client)

    @rule()
    def server_returns(self) -> None:
        self.send_returns(self.server)

    @precondition(lambda self: self.on_the_way)
    @rule(pick=st.integers(0, 100))
    def a_return_arrives(self, pick: int) -> None:
        end, frame = self.on_the_way.pop(pick % len(self.on_the_way))
        end.core.dec_strong(frame[16:])

    @invariant()
    def nothing_that_is_held_was_released(self) -> None:
        for end in (self.client, self.server):
            end.core.tell_released()
        for slot in self.shop.kept:
            assert self.mine[slot]._holds == 1
        for slot in self.theirs:
            assert self.shop.own[slot]._holds == 1

    def teardown(self) -> None:
        self.shop.kept.clear()
        self.theirs.clear()
        gc.collect()
        while True:
            for end in (self.client, self.server):
                self.send_returns(end)
            if not self.on_the_way:
                break
            random.Random(len(self.on_the_way)).shuffle(self.on_the_way)
            while self.on_the_way:
                self.a_return_arrives(0)
        self.nothing_that_is_held_was_released()
        assert list(self.client.counts()) == list(self.server.counts()) == [ROOT]
        assert self.server.counts()[ROOT][0] == self.client.counts()[ROOT][1]
        for echo in [*self.mine.values(), *self.shop.own.values()]:
            assert echo._holds == 0


TestReferences = References.TestCase
TestReferences.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
