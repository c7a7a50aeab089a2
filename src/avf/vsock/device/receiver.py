"""The receive queue: empty buffers of the guest, taken ahead and used in order."""

from collections import deque

from avf.vsock.device.errors import GuestError
from avf.vsock.device.packet import HEADER_SIZE, Header, write_header
from avf.vsock.device.virtqueue import Chain, Queue


class Receiver:
    """Hands out the guest's buffers; unused ones come back and go out first the next time."""

    __slots__ = ("_queue", "_spare")

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._spare: deque[Chain] = deque()

    def ready(self) -> bool:
        """Whether there is a buffer. Raises GuestError."""
        if not self._spare and (chain := self._next()) is not None:
            self._spare.append(chain)
        return bool(self._spare)

    def take(self, count: int) -> list[Chain]:
        """Up to `count` buffers. Raises GuestError."""
        taken: list[Chain] = []
        while len(taken) < count:
            chain = self._spare.popleft() if self._spare else self._next()
            if chain is None:
                break
            taken.append(chain)
        return taken

    def put_back(self, chains: list[Chain]) -> None:
        """Returns buffers that were taken last and not used."""
        self._spare.extendleft(reversed(chains))

    def deliver(self, chain: Chain, header: Header, length: int) -> None:
        """Gives a buffer, with `length` bytes of data in it already, to the guest."""
        write_header(chain, header)
        self._queue.push(chain, HEADER_SIZE + length)

    def send(self, header: Header) -> bool:
        """Sends a packet without data; False if there is no buffer. Raises GuestError."""
        if not self.ready():
            return False
        self.deliver(self._spare.popleft(), header, 0)
        return True

    def arm(self) -> bool:
        """Asks to be kicked when there are more buffers; True if there are some already."""
        return bool(self._spare) or self._queue.arm()

    def _next(self) -> Chain | None:
        chain = self._queue.pop()
        if chain is not None and chain.size <= HEADER_SIZE:
            raise GuestError(f"a receive buffer of {chain.size} bytes has no room for data")
        return chain
