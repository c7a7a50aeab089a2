"""The device itself: its memory and queues, as the front-end sets them up, and the connections behind them."""

import os
import struct
from collections.abc import Callable

from avf.vsock.device import loop as events_of
from avf.vsock.device.connections import Connections
from avf.vsock.device.errors import FrontEndError, GuestError, MemoryGone
from avf.vsock.device.loop import Loop
from avf.vsock.device.memory import GuestMemory, Region
from avf.vsock.device.packet import parse
from avf.vsock.device.receiver import Receiver
from avf.vsock.device.remote_memory import RemoteMemory
from avf.vsock.device.remote_queue import RemoteQueue
from avf.vsock.device.vhost_user import FEATURE_EVENT_IDX, FEATURE_PROTOCOL, QUEUES
from avf.vsock.device.virtqueue import SIZE_MAX, Queue, RingAddresses, Virtqueue

RX = 0
TX = 1
EVENT = 2
"""Of events there is only one, that the device has lost all connections with its state; it never does."""

_PACKETS_PER_TURN = 256


class Ring:
    """What the front-end has told about one queue; it runs once all of it is there."""

    __slots__ = ("addresses", "base", "call", "enabled", "kick", "queue", "size")

    def __init__(self) -> None:
        self.size = 0
        self.base = 0
        self.addresses: RingAddresses | None = None
        self.kick: int | None = None
        self.call: int | None = None
        self.enabled = False
        self.queue: Queue | None = None

    def signal(self) -> None:
        """Interrupts the guest if it wants to be."""
        if self.queue is not None and self.queue.needs_call() and self.call is not None:
            try:
                os.eventfd_write(self.call, 1)
            except OSError:
                pass  # the counter is full, so the guest has not taken the last one


class Device:
    """Implements vhost_user.Backend. `pump` moves packets; it never raises for what the guest did."""

    def __init__(
        self,
        loop: Loop,
        cid: int,
        connections: Connections,
        log: Callable[[str], None],
        borrow: Callable[[], int] | None = None,
    ) -> None:
        """`borrow` returns a descriptor of the front-end's memory, for a guest whose memory cannot be mapped; it raises
        FrontEndError.
        """
        self._loop = loop
        self._cid = cid
        self._connections = connections
        self._log = log
        self._borrow = borrow
        self._memory: GuestMemory | RemoteMemory | None = None
        self._features = 0
        self._rings = [Ring() for _ in range(QUEUES)]
        self._receiver: Receiver | None = None
        self._broken = False
        self._stalled = False  # the guest must first make room for the refusals it is owed

    @property
    def broken(self) -> bool:
        """Whether the guest broke the rules and has not started anew."""
        return self._broken

    def pump(self) -> bool:
        """Moves packets both ways, a bounded number; True if there are more that could move now."""
        if self._broken:
            return False
        try:
            more = self._drain() | self._fill()
            if self._stalled and not self._connections.congested:
                more = True
            for ring in self._rings:
                ring.signal()
        except MemoryGone:
            self._broken = True
            return False
        except GuestError as error:
            self.fail(str(error))
            return False
        return more

    def fail(self, reason: str) -> None:
        """Ends all traffic until the front-end sets the queues up again."""
        self._log(f"the guest's vsock traffic ends: {reason}")
        self._broken = True
        self._connections.close()

    def close(self) -> None:
        """Gives everything back."""
        self.reset()
        for ring in self._rings:
            self._replace_call(ring, None)
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    # --- packets

    def _drain(self) -> bool:
        """Takes packets of the guest; True if more may be there."""
        queue = self._rings[TX].queue
        self._stalled = False
        if queue is None:
            return False
        for _ in range(_PACKETS_PER_TURN):
            if self._connections.congested:
                self._stalled = True
                return False
            chain = queue.pop()
            if chain is None:
                if queue.arm():
                    continue
                return False
            header, payload = parse(chain)
            self._connections.handle(header, payload)
            queue.push(chain, 0)
        return True

    def _fill(self) -> bool:
        return self._receiver is not None and self._connections.pump(self._receiver)

    # --- the front-end's requests

    def config(self) -> bytes:
        """The configuration space: guest_cid."""
        return struct.pack("<Q", self._cid)

    def set_features(self, features: int) -> None:
        """Takes the features driver and front-end agreed on."""
        self._features = features

    def set_memory(self, regions: list[tuple[int, int, int, int, int]]) -> None:
        """Finds the guest's memory anew, and running queues in it again."""
        memory = self._find_memory(regions)
        running = [ring for ring in self._rings if ring.queue is not None]
        for ring in running:
            self._halt(ring)
        if self._memory is not None:
            self._memory.close()
        self._memory = memory
        for ring in running:
            self._try_start(ring)

    def _find_memory(
        self, regions: list[tuple[int, int, int, int, int]]
    ) -> GuestMemory | RemoteMemory:
        if self._borrow is not None:
            return RemoteMemory(
                self._borrow(), [(gpa, size, user) for _, gpa, size, user, _ in regions]
            )
        mapped: list[Region] = []
        try:
            for region in regions:
                mapped.append(Region(*region))  # noqa: PERF401
        except FrontEndError:
            for region_ in mapped:
                region_.close()
            raise
        return GuestMemory(mapped)

    def set_size(self, queue: int, size: int) -> None:
        """A power of two."""
        if not 0 < size <= SIZE_MAX or size & (size - 1):
            raise FrontEndError(f"a queue cannot have {size} entries")
        self._stopped(queue).size = size

    def set_addresses(self, queue: int, desc: int, avail: int, used: int) -> None:
        """Where the ring is, in the front-end's address space."""
        ring = self._rings[queue]
        ring.addresses = RingAddresses(desc, avail, used)
        if ring.queue is not None:
            self._halt(ring)
            self._try_start(ring)

    def set_base(self, queue: int, base: int) -> None:
        """Where the queue goes on. Another place than where it stopped means that the guest's driver is a new one."""
        if base > 0xFFFF:
            raise FrontEndError(f"{base} is no ring index")
        ring = self._stopped(queue)
        if base != ring.base or self._broken:
            self._connections.restart()
            self._broken = False
        ring.base = base

    def stop(self, queue: int) -> int:
        """Stops a queue and tells where it stands; what the guest sent until now is still taken."""
        ring = self._rings[queue]
        if ring is self._rings[TX] and ring.queue is not None:
            self.pump()
        self._halt(ring)
        if ring.kick is not None:
            self._loop.close_fd(ring.kick)
            ring.kick = None
        return ring.base

    def set_kick(self, queue: int, fd: int) -> None:
        """Takes over the descriptor by which the guest kicks, and starts the queue."""
        ring = self._rings[queue]
        try:
            self._loop.add(fd, events_of.IN | events_of.EDGE, self._on_kick)
        except OSError as error:
            os.close(fd)
            raise FrontEndError(f"the kick descriptor cannot be waited for: {error}") from None
        if ring.kick is not None:
            self._loop.close_fd(ring.kick)
        ring.kick = fd
        self._try_start(ring)

    def set_call(self, queue: int, fd: int | None) -> None:
        """Takes over the descriptor that interrupts the guest."""
        self._replace_call(self._rings[queue], fd)

    def enable(self, queue: int, on: bool) -> None:
        """Lets a queue run or rest."""
        ring = self._rings[queue]
        ring.enabled = on
        if on:
            self._try_start(ring)
        else:
            self._halt(ring)

    def reset(self) -> None:
        """Stops all queues and forgets where they were."""
        for index, ring in enumerate(self._rings):
            self.stop(index)
            ring.addresses = None
            ring.enabled = False

    # --- rings

    def _stopped(self, queue: int) -> Ring:
        ring = self._rings[queue]
        if ring.queue is not None:
            raise FrontEndError(f"queue {queue} is running")
        return ring

    def _on_kick(self, events: int) -> None:
        """Nothing to do: whatever woke the loop, it pumps. The edge makes reading the counter unnecessary."""

    def _try_start(self, ring: Ring) -> None:
        enabled = ring.enabled or not self._features & FEATURE_PROTOCOL
        ready = enabled and ring.size and ring.kick is not None and ring.queue is None
        if ring is self._rings[EVENT]:
            return
        if not ready or self._memory is None or ring.addresses is None:
            return
        ring.queue = self._queue(ring, self._memory, ring.addresses)
        if ring is self._rings[RX]:
            self._receiver = Receiver(ring.queue)

    def _queue(
        self, ring: Ring, memory: GuestMemory | RemoteMemory, addresses: RingAddresses
    ) -> Queue:
        size, base = ring.size, ring.base
        event_idx = bool(self._features & FEATURE_EVENT_IDX)
        writable = ring is self._rings[RX]
        if isinstance(memory, RemoteMemory):
            return RemoteQueue(
                memory, addresses, size=size, base=base, event_idx=event_idx, writable=writable
            )
        return Virtqueue(
            memory, addresses, size=size, base=base, event_idx=event_idx, writable=writable
        )

    def _halt(self, ring: Ring) -> None:
        """Stops a queue; buffers taken ahead and not used are taken again when it runs again."""
        if ring.queue is None:
            return
        ring.base = ring.queue.used_index
        ring.queue.close()
        ring.queue = None
        if ring is self._rings[RX]:
            self._receiver = None

    def _replace_call(self, ring: Ring, fd: int | None) -> None:
        if ring.call is not None:
            os.close(ring.call)
        ring.call = fd
