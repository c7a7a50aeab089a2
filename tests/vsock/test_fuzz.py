"""A guest, a front-end and a host that do anything at all, in any order: the device neither fails nor grows."""

import os
import socket
import struct
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from avf.vsock.device import main
from avf.vsock.device.outbox import REFUSALS_MAX
from avf.vsock.device.packet import Op
from avf.vsock.device.vhost_user import Request
from tests.vsock import frontend
from tests.vsock.frontend import MEMORY, RX, SIZE, TX, WINDOW, Descriptor

LIMIT = 6
PLACE = 2 << 20
LISTENED = 80

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
u64 = st.integers(0, (1 << 64) - 1)
ports = st.integers(1, 3)
addresses = st.one_of(
    st.just(PLACE),
    st.integers(0, MEMORY),
    st.integers((1 << 32) - 64, (1 << 32) + MEMORY // 2),
    u64,
)
lengths = st.one_of(st.integers(0, 200), st.sampled_from([44, 4096, 65536, 1 << 20]), u32)
flags = st.one_of(st.sampled_from([0, 1, 2, 3]), u16)
chains = st.lists(
    st.builds(Descriptor, addresses, lengths, flags, st.one_of(st.integers(0, SIZE), u16)),
    min_size=1,
    max_size=6,
)
counters = st.one_of(st.integers(0, 1 << 18), u32)


class Streams(RuleBasedStateMachine):
    """Packets and host sockets in any order over queues in order; room for few connections, so their end is near."""

    lent = False
    """Whether the device cannot map the guest's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.log: list[str] = []
        self.stack.enter_context(mock.patch.object(main, "log", self.log.append))
        self.guest = self.stack.enter_context(frontend.guest(lent=self.lent))
        self.guest.process.connections._limit = LIMIT
        self.listener = self.stack.enter_context(self.guest.listener(LISTENED))
        self.listener.setblocking(False)
        self.hosts: list[socket.socket] = []
        self.delivered: Counter[tuple[int, int]] = Counter()
        self.descriptors = len(list(Path("/proc/self/fd").iterdir()))

    @initialize()
    def boot(self) -> None:
        self.guest.boot()

    # --- the guest

    @rule(
        op=st.one_of(st.sampled_from(Op), u16),
        port=ports,
        size=st.sampled_from([0, 1, 100, 32768]),
        bits=st.sampled_from([0, 1, 2, 3]),
        window=counters,
        forwarded=counters,
    )
    def packet(self, op: int, port: int, size: int, bits: int, window: int, forwarded: int) -> None:
        self.guest.packet(
            op, LISTENED, port, bytes(size), flags=bits, buf_alloc=window, fwd_cnt=forwarded
        )

    @rule(
        op=st.sampled_from([Op.RW, Op.RW, Op.RW, Op.SHUTDOWN, Op.CREDIT_UPDATE, Op.CREDIT_REQUEST]),
        choice=st.integers(0, 9),
        size=st.sampled_from([1, 1000, 65536, 200_000]),
        bits=st.sampled_from([1, 2, 3]),
        window=st.sampled_from([0, 100, WINDOW, WINDOW, WINDOW]),
    )
    def good_packet(self, op: Op, choice: int, size: int, bits: int, window: int) -> None:
        """What a well-behaved guest sends on a connection it has, so that connections get somewhere."""
        self.answer_requests(Op.RESPONSE)
        if self.delivered:
            key = sorted(self.delivered)[choice % len(self.delivered)]
            data = bytes(size) if op is Op.RW else b""
            self.guest.packet(
                op, *key, data, flags=bits, buf_alloc=window, fwd_cnt=self.delivered[key]
            )

    @rule(port=ports)
    def request(self, port: int) -> None:
        self.guest.packet(Op.REQUEST, LISTENED, port)

    @rule(source=u64, destination=u64, kind=u16, length=u32)
    def foreign_packet(self, source: int, destination: int, kind: int, length: int) -> None:
        self.guest.packet(
            Op.RW, LISTENED, 1, src_cid=source, dst_cid=destination, type=kind, length=length
        )

    @rule(answer=st.sampled_from([Op.RESPONSE, Op.RESPONSE, Op.RST]))
    def answer_requests(self, answer: Op) -> None:
        for packet in self.guest.received():
            key = (packet.header.src_port, packet.header.dst_port)
            if packet.header.op == Op.REQUEST:
                self.delivered[key] = 0
                self.guest.packet(answer, *key)
            elif packet.header.op == Op.RST:
                self.delivered.pop(key, None)
            elif packet.header.op == Op.RESPONSE:
                self.delivered[key] = 0
            else:
                self.delivered[key] += len(packet.data)

    @rule(keep=st.booleans())
    def receive(self, keep: bool) -> None:
        """Whether buffers go back to the device, or it has to do without."""
        self.guest.keep_receiving = keep
        if keep:
            for ring in self.guest.rings:
                ring.seen = ring.used_index
            self.revive()

    @rule()
    def revive(self) -> None:
        """A reboot, whatever the device has been told before."""
        self.guest.keep_receiving = True
        self.delivered.clear()
        for index in (RX, TX):
            self.guest.stop_ring(index)
            self.guest.rings[index].restart()
        self.guest.boot()

    # --- the host

    @rule()
    def accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            return
        self._keep(sock)

    @rule(line=st.one_of(st.builds(b"CONNECT %d\n".__mod__, ports), st.binary(max_size=40)))
    def knock(self, line: bytes) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        sock.connect(str(self.guest.base))
        sock.send(line)
        self.guest.settle()
        self._keep(sock)

    @rule(choice=st.integers(0, 9), size=st.sampled_from([1, 5000, 200_000]))
    def host_sends(self, choice: int, size: int) -> None:
        if self.hosts:
            try:
                self.hosts[choice % len(self.hosts)].send(os.urandom(size))
            except OSError:
                pass  # full, or the other end has gone
        self.guest.settle()

    @rule(choice=st.integers(0, 9), way=st.sampled_from(["read", "close", "write", "half"]))
    def host_acts(self, choice: int, way: str) -> None:
        if not self.hosts:
            return
        sock = self.hosts[choice % len(self.hosts)]
        try:
            if way == "read":
                sock.recv(1 << 20)
            elif way == "close":
                self.hosts.remove(sock)
                sock.close()
            else:
                sock.shutdown(socket.SHUT_WR if way == "half" else socket.SHUT_RD)
        except OSError:
            pass  # nothing to read, or the other end has gone
        self.guest.settle()

    def _keep(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.hosts.append(sock)
        if len(self.hosts) > 10:
            self.hosts.pop(0).close()
        self.guest.settle()

    # --- what must hold

    @invariant()
    def no_mistakes(self) -> None:
        assert not [line for line in self.log if "Traceback" in line]
        assert self.guest.process.running

    @invariant()
    def bounded(self) -> None:
        connections = self.guest.process.connections
        assert len(connections) <= LIMIT
        assert connections.backlog <= LIMIT * WINDOW
        assert len(connections._outbox._refusals) <= REFUSALS_MAX + LIMIT
        assert len(connections._outbox._ready) <= LIMIT
        assert len(connections._deadlines._timed) <= LIMIT
        assert len(connections._deadlines.retries) <= LIMIT
        assert len(list(Path("/proc/self/fd").iterdir())) < self.descriptors + 100

    def teardown(self) -> None:
        for sock in self.hosts:
            sock.close()
        self.stack.close()


class Chaos(Streams):
    """... and over queues and control messages that are anything but in order."""

    def __init__(self) -> None:
        super().__init__()
        self.guest.sane = False

    @rule(chain=chains, content=st.binary(max_size=64))
    def raw_chain(self, chain: list[Descriptor], content: bytes) -> None:
        self.guest.write(PLACE, content)
        self.guest.transmit(chain)

    @rule(chain=chains, head=u16)
    def raw_buffers(self, chain: list[Descriptor], head: int) -> None:
        for index, descriptor in enumerate(chain):
            self.guest.rings[RX].describe(index, descriptor)
        self.guest.rings[RX].offer(head)
        self.guest.rings[RX].kick_anyway()
        self.guest.settle()

    @rule(index=st.sampled_from([RX, TX]), value=u16)
    def wild_index(self, index: int, value: int) -> None:
        self.guest.rings[index].set_avail_index(value)
        self.guest.rings[index].kick_anyway()
        self.guest.settle()

    @rule(content=st.binary(min_size=1, max_size=300), place=st.integers(0x1000, 0x2200))
    def scribble(self, content: bytes, place: int) -> None:
        self.guest.write(place, content)
        self.guest.settle()

    # --- the front-end

    @rule(index=st.sampled_from([RX, TX]))
    def pause(self, index: int) -> None:
        self.guest.start_ring(index, self.guest.stop_ring(index))

    @rule(
        request=st.one_of(st.sampled_from(Request), u32),
        payload=st.one_of(
            st.binary(max_size=80),
            st.builds(lambda a, b: struct.pack("=II", a, b), st.integers(0, 2), u32),
        ),
        count=st.integers(0, 3),
    )
    def message(self, request: int, payload: bytes, count: int) -> None:
        self.guest.send(request, payload, [self.guest.memfd] * count)
        self.guest.control.setblocking(False)
        try:
            while self.guest.control.recv(4096):
                pass
        except BlockingIOError:
            pass
        self.guest.control.settimeout(10)

    @rule()
    def start_over(self) -> None:
        if self.guest.process.device.broken:
            self.revive()


class LentStreams(Streams):
    """The same through a descriptor of the memory."""

    lent = True


class LentChaos(Chaos):
    lent = True


_SETTINGS = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
for kind in (Streams, Chaos, LentStreams, LentChaos):
    kind.TestCase.settings = _SETTINGS
TestStreams = Streams.TestCase
TestChaos = Chaos.TestCase
TestLentStreams = LentStreams.TestCase
TestLentChaos = LentChaos.TestCase
