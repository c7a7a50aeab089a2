"""Which objects a session knows, and how often each was sent and received.

Rules (libbinder's): sending an object counts one, and so does calling it. The receiver of a foreign object gives all it
received back when its proxy dies; the receiver of its own object gives it back at once. An entry lives while either
count is above zero, and a session whose last entry goes is over. Nothing here locks; the session does.

What a session keeps here counts for the party of its account, until `clear` at the latest.
"""

import weakref
from collections import deque
from collections.abc import Callable

from . import wire
from .budget import MEMORY, Account, OverBudget
from .errors import ProtocolError, Status, StatusError
from .objects import Handle, IBinder, Node, Remote, hold
from .oneway import OnewayOrder
from .transaction import Transaction
from .wire import (
    ADDRESS_CREATED,
    ADDRESS_FOR_SERVER,
    ADDRESS_OPTIONS,
    MAX_BINDERS,
    STABILITIES,
    address,
    dec_strong,
)

_REMEMBERED = 256
OBJECT_COST = 1280
"""Bytes that an object takes, with the proxy of a foreign one."""
CALL_COST = 512
"""Bytes that a waiting call takes beside its body."""
_POSITION_COST = 128
LINK_COST = 256
"""Bytes that a death recipient takes."""


class RefTable:
    """The objects of one session."""

    def __init__(self, *, server: bool, account: Account) -> None:
        self.server = server
        self._account = account
        self._held = 0
        """Bytes that count for the account."""
        self.nodes: dict[int, Node] = {}
        self.owed: set[Node] = set()
        """Nodes of which something is to be given back."""
        self.garbage: deque[Node] = deque()
        """Nodes whose handle died; appended without the lock, from wherever the collector ran."""
        self.released: list[IBinder] = []
        """Local objects the peer let go of, to be told so without the lock."""
        self.ready: list[Transaction] = []
        """Oneway calls that no thread has taken, though it is their turn."""
        self.unrun = 0
        """Oneway calls that were received and cannot be run."""
        self.drained = False
        """The last entry has gone."""
        self._local: dict[int, Node] = {}
        self._next = 0
        self._async_out: dict[int, int] = {}
        self._cleared = False

    def _take(self, size: int, *, lasting: bool = False) -> None:
        """Raises OverBudget."""
        if not self._cleared:
            self._account.take(MEMORY, size, lasting=lasting)
            self._held += size

    def _give(self, size: int) -> None:
        if not self._cleared:
            self._account.give(MEMORY, size)
            self._held -= size

    def _take_object(self) -> None:
        """Counts one object more. Raises StatusError NO_MEMORY if there may be none."""
        if len(self.nodes) >= MAX_BINDERS:
            raise StatusError(Status.NO_MEMORY, f"the session knows {MAX_BINDERS} objects already")
        try:
            self._take(OBJECT_COST, lasting=True)
        except OverBudget as error:
            raise StatusError(Status.NO_MEMORY, str(error)) from None

    def leaving(self, binder: IBinder) -> tuple[int, int]:
        """Counts `binder` as sent; its address and stability."""
        handle = binder._remote
        if handle is None:
            node = self._local.get(id(binder)) or self._new_local(binder)
            node.times_sent += 1
            return node.address, binder._stability
        handle.check_open()
        node = handle.node
        node.times_sent += 1
        node.hold = handle
        return node.address, handle.stability

    def _new_local(self, binder: IBinder) -> Node:
        self._take_object()
        number = self._next
        while (key := address(number, for_server=self.server)) in self.nodes:
            number += 1
        self._next = number + 1
        node = Node(key)
        node.local = binder
        self.nodes[key] = node
        self._local[id(binder)] = node
        hold(binder)
        return node

    def entering(
        self, key: int, stability: int, remote: Remote, on_death: Callable[[Node], None]
    ) -> IBinder | Handle:
        """The object behind a received address, counted as received.

        Raises StatusError for one that cannot be; what was counted is given back then.
        """
        if (options := key & 0xFFFF_FFFF) & ~ADDRESS_OPTIONS:
            raise StatusError(Status.BAD_VALUE, f"binder address options {options:#x}")
        node = self.nodes.get(key)
        if node is not None and self._is_own(key):
            return self._own(node, stability)
        node = node or self._new_remote(key)
        node.times_received += 1
        handle = node.handle() if node.handle is not None else None
        if handle is None or handle.closed:
            handle = self._new_handle(node, stability, remote, on_death)
        elif handle.stability != stability:
            raise StatusError(Status.BAD_TYPE, f"stability {stability} was {handle.stability}")
        return handle

    def _is_own(self, key: int) -> bool:
        return bool(key & ADDRESS_FOR_SERVER) == self.server

    def _new_remote(self, key: int) -> Node:
        if self._is_own(key) or not key & ADDRESS_CREATED:
            raise StatusError(Status.BAD_VALUE, f"unknown binder address {key:#x}")
        self._take_object()
        node = self.nodes[key] = Node(key)
        node.async_out = self._async_out.pop(key, 0)
        return node

    def _new_handle(
        self, node: Node, stability: int, remote: Remote, on_death: Callable[[Node], None]
    ) -> Handle:
        self._unlink(node)
        if stability not in STABILITIES:
            self._check_handle(node)
            raise StatusError(Status.BAD_TYPE, f"stability {stability}")
        handle = Handle(remote, node, stability)
        node.handle = weakref.ref(handle, lambda _: on_death(node))
        return handle

    def _own(self, node: Node, stability: int) -> IBinder:
        if node.local is None:
            raise StatusError(Status.BAD_VALUE, f"released binder address {node.address:#x}")
        node.times_received += 1
        self.owed.add(node)
        if stability != node.local._stability:
            raise StatusError(Status.BAD_TYPE, f"stability {stability} was {node.local._stability}")
        return node.local

    def dec_strong(self, key: int, amount: int) -> Handle | None:
        """The peer gives back; what it cannot have is ignored.

        The handle let go of is to be dropped without the lock.
        """
        node = self.nodes.get(key)
        if node is None or amount > node.times_sent or amount == 0:
            return None
        node.times_sent -= amount
        if node.times_sent:
            if node.oneway is not None:
                node.oneway.renew()
                if (call := self._dequeued(node.oneway.start())) is not None:
                    self.ready.append(call)
            return None
        if node.local is not None:
            self.released.append(node.local)
            del self._local[id(node.local)]
            node.local = None
        held, node.hold = node.hold, None
        if node.handle is not None:
            self._check_handle(node)
        self._erase_if_done(node)
        return held

    def given_back(self, handle: Handle, key: int, amount: int) -> bool:
        """`dec_strong` of the peer's object behind a handle in use, as after most calls.

        False, and nothing is done, if there is more to see to.
        """
        node = handle.node
        left = node.times_sent - amount
        simple = key == node.address and left >= 0 < amount and node.times_received > 0
        if not simple or handle.closed:
            return False
        node.times_sent = left
        if not left:
            node.hold = None
        return True

    def giving_back(self, node: Node) -> int:
        """`returns` of an object of ours that has been called, as after most calls: the amount, now counted as sent.

        0, and nothing is done, if there is more to see to.
        """
        if self.owed or self.garbage or self.drained or not node.times_sent:
            return 0
        if node.oneway is not None and node.oneway.busy:
            return 0
        amount, node.times_received = node.times_received, 0
        return amount

    def _check_handle(self, node: Node) -> None:
        """Notes that all receptions are to be returned, if nobody can use the object any more."""
        handle = node.handle() if node.handle is not None else None
        dead = handle is None or handle.closed
        if dead:
            self._unlink(node)
        if dead and node.times_sent == 0 and node.times_received:
            self.owed.add(node)

    def link(self, node: Node) -> None:
        """Counts a death recipient. Raises StatusError NO_MEMORY if there may be no more."""
        try:
            self._take(LINK_COST, lasting=True)
        except OverBudget as error:
            raise StatusError(Status.NO_MEMORY, str(error)) from None
        node.links += 1

    def unlink(self, node: Node) -> None:
        """Counts one death recipient less."""
        if node.links:
            node.links -= 1
            self._give(LINK_COST)

    def _unlink(self, node: Node) -> None:
        while node.links:
            self.unlink(node)

    def close(self, handle: Handle) -> None:
        handle.closed = True
        self._check_handle(handle.node)

    def returns(self, limit: int) -> list[bytes]:
        """The DEC_STRONG frames due, at most `limit`, counted as sent."""
        while self.garbage:
            self._check_handle(self.garbage.popleft())
        frames: list[bytes] = []
        while self.owed and len(frames) < limit:
            node = self.owed.pop()
            if node.oneway is not None and node.oneway.busy:
                continue  # noted again when the queue has run
            amount, node.times_received = node.times_received, 0
            if amount:
                frames.append(dec_strong(node.address, amount))
            self._erase_if_done(node)
        return frames

    def receive_oneway(self, node: Node, number: int, call: Transaction) -> Transaction | None:
        """Takes a oneway call; the one to be run now. Raises ProtocolError if too much is waiting."""
        order = node.oneway
        if order is None:
            order = node.oneway = OnewayOrder()
        if order.begin(number):
            return call
        if len(order) >= wire.MAX_QUEUED_ONEWAY:
            raise ProtocolError(f"{len(order)} oneway calls are waiting for one object")
        self._take(_cost(call))
        order.add(number, call)
        return self._dequeued(order.start())

    def oneway_done(self, node: Node) -> Transaction | None:
        """A oneway call of the object has run; the one whose turn it is, if it has come."""
        assert node.oneway is not None
        return self._dequeued(node.oneway.done())

    def _dequeued(self, call: Transaction | None) -> Transaction | None:
        """A call that waits no longer."""
        if call is not None:
            self._give(_cost(call))
        return call

    def _drop_calls(self, node: Node) -> None:
        """Forgets the oneway calls of an object that is known no longer."""
        for call in node.oneway.clear() if node.oneway is not None else ():
            self._give(_cost(call))
            call.reader.close()
            self.unrun += 1

    def _erase_if_done(self, node: Node) -> None:
        if node.times_sent or node.times_received or node.address not in self.nodes:
            return
        del self.nodes[node.address]
        self._unlink(node)
        self._drop_calls(node)
        self._give(OBJECT_COST)
        if node.async_out:
            self._remember(node)
        if not self.nodes:
            self.drained = True

    def _remember(self, node: Node) -> None:
        """Keeps a foreign object's next oneway number: it goes on if the peer sends the object again before it has
        received what we gave back."""
        while len(self._async_out) >= _REMEMBERED:
            del self._async_out[next(iter(self._async_out))]
        self._async_out[node.address] = node.async_out

    def handles(self) -> list[Handle]:
        """Those that are alive."""
        found = [node.handle() for node in self.nodes.values() if node.handle is not None]
        return [handle for handle in found if handle is not None]

    def clear(self) -> None:
        """Forgets everything."""
        for node in self.nodes.values():
            if node.local is not None:
                self.released.append(node.local)
                node.local = None
            node.hold = None
            self._drop_calls(node)
        self.nodes.clear()
        self._local.clear()
        self.owed.clear()
        for call in self.ready:
            call.reader.close()
            self.unrun += 1
        self.ready.clear()
        self._give(self._held)
        self._cleared = True


def _cost(call: Transaction) -> int:
    """Bytes that a waiting call takes."""
    return CALL_COST + call.reader.end + _POSITION_COST * len(call.reader.positions)
