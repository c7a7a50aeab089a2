"""What waits for the guest: refusals first, then the connections that have something for it, in turn."""

from collections import OrderedDict, deque
from collections.abc import Callable

from avf.vsock.device.connection import Connection, State
from avf.vsock.device.packet import HEADER_SIZE, NEITHER, Header, Op, cut
from avf.vsock.device.receiver import Receiver

REFUSALS_MAX = 256
"""As many refusals may wait for the guest to make room before it is not listened to any more."""

_PACKETS_PER_TURN = 512


class Outbox:
    """Holds no packets but refusals: what a connection has to say is found out when there is a buffer for it."""

    def __init__(self, on_farewell: Callable[[Connection], None]) -> None:
        """`on_farewell` is called when a guest has been told that the host's side of a connection is gone."""
        self._on_farewell = on_farewell
        self._ready: OrderedDict[Connection, None] = OrderedDict()
        self._refusals: deque[Header] = deque()

    @property
    def congested(self) -> bool:
        """Whether the guest must first take the refusals it is owed."""
        return len(self._refusals) >= REFUSALS_MAX

    def refuse(self, header: Header) -> None:
        """Queues a reset of what is no connection, or no longer one."""
        self._refusals.append(header)

    def forgive(self) -> None:
        """Forgets the refusals."""
        self._refusals.clear()

    def mark(self, connection: Connection) -> None:
        """Queues a connection if it has something for the guest."""
        if connection.state is State.OPEN:
            connection.want_credit()
        if connection.has_work:
            self._ready[connection] = None

    def discard(self, connection: Connection) -> None:
        """Forgets a connection."""
        self._ready.pop(connection, None)

    def pump(self, receiver: Receiver) -> bool:
        """Fills the guest's buffers with what waits for it; True if more could go now. Raises GuestError."""
        for _ in range(_PACKETS_PER_TURN):
            if self._refusals:
                sent = receiver.send(self._refusals[0])
                if sent:
                    self._refusals.popleft()
            elif self._ready:
                connection = next(iter(self._ready))
                sent = self._serve(connection, receiver)
                if sent:
                    self._requeue(connection)
            else:
                return False
            if not sent and not receiver.arm():
                return False
        return True

    def _serve(self, connection: Connection, receiver: Receiver) -> bool:
        """One packet, or one burst of data, of one connection; False if the guest has no buffer for it."""
        if connection.opening is not None:
            if not self._send(receiver, connection, connection.opening):
                return False
            connection.opening = None
            return True
        if connection.may_read:
            return self._send_data(connection, receiver)
        if connection.host_shut != connection.told_shut:
            return self._tell_shutdown(connection, receiver)
        if connection.owes_credit_request:
            sent = self._send(receiver, connection, Op.CREDIT_REQUEST)
            connection.owes_credit_request = not sent
            return sent
        if connection.owes_credit:
            return self._send(receiver, connection, Op.CREDIT_UPDATE)
        return True

    def _send(self, receiver: Receiver, connection: Connection, op: Op, flags: int = 0) -> bool:
        if not receiver.ready():
            return False
        return receiver.send(connection.header(op, flags=flags))

    def _send_data(self, connection: Connection, receiver: Receiver) -> bool:
        chains = receiver.take(connection.burst)
        if not chains:
            return False
        room = connection.credit
        buffers: list[memoryview] = []
        offered = 0
        for chain in chains:
            size = min(chain.size - HEADER_SIZE, room - offered)
            if size <= 0:
                break
            buffers += cut(chain.segments, HEADER_SIZE, size)
            offered += size
        count = connection.read_into(buffers, offered)
        used = 0
        while count:
            chain = chains[used]
            length = min(count, chain.size - HEADER_SIZE)
            receiver.deliver(chain, connection.header(Op.RW, length=length), length)
            used += 1
            count -= length
        receiver.put_back(chains[used:])
        connection.want_credit()
        return True

    def _tell_shutdown(self, connection: Connection, receiver: Receiver) -> bool:
        flags = connection.host_shut
        if not self._send(receiver, connection, Op.SHUTDOWN, flags=flags):
            return False
        connection.told_shut = flags
        if flags == NEITHER:
            self._on_farewell(connection)
        return True

    def _requeue(self, connection: Connection) -> None:
        if connection not in self._ready:
            return
        if connection.has_work:
            self._ready.move_to_end(connection)
        else:
            del self._ready[connection]
