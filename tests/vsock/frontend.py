"""A scripted vhost-user front-end and guest driver around a device that runs in the test's own process."""

import mmap
import os
import socket
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from avf.vsock.device.main import Arguments, Process
from avf.vsock.device.packet import HEADER, Header, Op
from avf.vsock.device.vhost_user import FEATURE_EVENT_IDX, FEATURES, PROTOCOL_FEATURES, Request

CID = 3000
SIZE = 16
MEMORY = 8 << 20
USER = 0x7F00_0000_0000
RX, TX = 0, 1
NEXT, WRITE, INDIRECT = 1, 2, 4
WINDOW = 256 * 1024

_STEPS_MAX = 100_000


@dataclass
class Descriptor:
    """One entry of a descriptor table."""

    address: int
    length: int
    flags: int = 0
    next: int = 0


class DriverRing:
    """The driver's side of a split queue in guest memory, with every field open to mischief."""

    def __init__(self, memory: mmap.mmap, base: int, size: int = SIZE) -> None:
        self.memory = memory
        self.size = size
        self.desc = base
        self.avail = base + 16 * size
        self.used = (self.avail + 6 + 2 * size + 3) & ~3
        self.end = self.used + 6 + 8 * size
        self.avail_index = 0
        self.notified = 0
        self.seen = 0
        self.event_idx = True
        self.kick = os.eventfd(0, os.EFD_NONBLOCK)
        self.call = os.eventfd(0, os.EFD_NONBLOCK)

    def close(self) -> None:
        os.close(self.kick)
        os.close(self.call)

    def describe(self, index: int, descriptor: Descriptor) -> None:
        struct.pack_into(
            "<QIHH",
            self.memory,
            self.desc + 16 * index,
            descriptor.address,
            descriptor.length,
            descriptor.flags,
            descriptor.next,
        )

    def offer(self, head: int) -> None:
        """Makes one chain available, without a kick."""
        slot = self.avail + 4 + 2 * (self.avail_index % self.size)
        struct.pack_into("<H", self.memory, slot, head)
        self.set_avail_index(self.avail_index + 1)

    def set_avail_index(self, index: int) -> None:
        self.avail_index = index & 0xFFFF
        struct.pack_into("<H", self.memory, self.avail + 2, self.avail_index)

    def set_used_event(self, index: int) -> None:
        struct.pack_into("<H", self.memory, self.avail + 4 + 2 * self.size, index & 0xFFFF)

    @property
    def avail_event(self) -> int:
        (index,) = struct.unpack_from("<H", self.memory, self.used + 4 + 8 * self.size)
        return int(index)

    @property
    def used_index(self) -> int:
        (index,) = struct.unpack_from("<H", self.memory, self.used + 2)
        return int(index)

    def take_used(self) -> list[tuple[int, int]]:
        """(head, length) of what the device has given back since the last time."""
        taken = []
        while self.seen != self.used_index:
            slot = self.used + 4 + 8 * (self.seen % self.size)
            taken.append(struct.unpack_from("<II", self.memory, slot))
            self.seen = (self.seen + 1) & 0xFFFF
        return taken

    def notify(self) -> None:
        """Kicks if the device wants to hear of what was offered since the last time."""
        new, old = self.avail_index, self.notified
        self.notified = new
        if not self.event_idx or (new - self.avail_event - 1) & 0xFFFF < (new - old) & 0xFFFF:
            self.kick_anyway()

    def kick_anyway(self) -> None:
        os.eventfd_write(self.kick, 1)

    def calls(self) -> int:
        """How many interrupts there were since the last time."""
        try:
            return os.eventfd_read(self.call)
        except BlockingIOError:
            return 0

    def restart(self) -> None:
        """What a new driver does: all zero."""
        self.memory[self.desc : self.end] = bytes(self.end - self.desc)
        self.avail_index = self.notified = self.seen = 0


@dataclass
class Packet:
    """A packet that reached the guest."""

    header: Header
    data: bytes = field(repr=False)

    @property
    def op(self) -> Op:
        return Op(self.header.op)


@dataclass
class Guest:
    """Front-end, driver and device together. Ports of the guest and the host are numbers of the test's choosing."""

    process: Process
    control: socket.socket
    memory: mmap.mmap
    memfd: int
    directory: Path
    rings: list[DriverRing] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    rx_size: int = 4096 + 44
    keep_receiving: bool = True
    second: int = USER + (1 << 32)
    """The front-end's address of the second half of memory."""
    sane: bool = True
    """Whether the used ring holds what the device wrote, and not what the test scribbled over it."""

    @property
    def base(self) -> Path:
        return self.directory / "vsock"

    @property
    def host_dir(self) -> Path:
        return self.directory / "host"

    # --- control

    def send(
        self, request: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 1
    ) -> None:
        frame = struct.pack("=III", request, flags, len(payload)) + payload
        socket.send_fds(self.control, [frame], list(fds))
        self.settle()

    def ask(
        self, request: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 9
    ) -> bytes:
        """The payload of the reply."""
        self.send(request, payload, fds, flags)
        head = self.control.recv(12)
        answered, reply_flags, size = struct.unpack("=III", head)
        assert (answered, reply_flags) == (request, 5)
        return self.control.recv(size) if size else b""

    def acknowledged(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bool:
        """Whether the device took the request; only for those without a reply of their own."""
        (failed,) = struct.unpack("=Q", self.ask(request, payload, fds))
        return not failed

    def negotiate(self, features: int = FEATURES) -> None:
        self.send(Request.SET_PROTOCOL_FEATURES, struct.pack("=Q", PROTOCOL_FEATURES))
        self.send(Request.SET_FEATURES, struct.pack("=Q", features))

    def share_memory(self) -> None:
        half = MEMORY // 2
        regions = struct.pack("=QQQQ", 0, half, USER, 0)
        regions += struct.pack("=QQQQ", 1 << 32, half, self.second, half)
        assert self.acknowledged(
            Request.SET_MEM_TABLE, struct.pack("=II", 2, 0) + regions, [self.memfd, self.memfd]
        )

    def start_ring(self, index: int, base: int = 0) -> None:
        ring = self.rings[index]
        self.send(Request.SET_VRING_NUM, struct.pack("=II", index, ring.size))
        self.send(Request.SET_VRING_BASE, struct.pack("=II", index, base))
        addresses = (USER + ring.desc, USER + ring.used, USER + ring.avail)
        self.send(Request.SET_VRING_ADDR, struct.pack("=IIQQQQ", index, 0, *addresses, 0))
        self.send(Request.SET_VRING_KICK, struct.pack("=Q", index), [ring.kick])
        self.send(Request.SET_VRING_CALL, struct.pack("=Q", index), [ring.call])
        self.send(Request.SET_VRING_ENABLE, struct.pack("=II", index, 1))

    def stop_ring(self, index: int) -> int:
        _, base = struct.unpack(
            "=II", self.ask(Request.GET_VRING_BASE, struct.pack("=II", index, 0), flags=1)
        )
        return int(base)

    def boot(self, features: int = FEATURES) -> None:
        """The driver comes up."""
        self.negotiate(features)
        for ring in self.rings:
            ring.event_idx = bool(features & FEATURE_EVENT_IDX)
        self.share_memory()
        for index in (RX, TX):
            self.start_ring(index)
        self.supply(SIZE)

    def reboot(self) -> None:
        for index in (RX, TX):
            self.stop_ring(index)
            self.rings[index].restart()
        for index in (RX, TX):
            self.start_ring(index)
        self.supply(SIZE)

    # --- queues

    def settle(self) -> None:
        """Lets the device do all there is to do."""
        quiet = 0
        for _ in range(_STEPS_MAX):
            quiet = 0 if self.process.step(0) else quiet + 1
            if quiet == 2:  # what one step closes, the next one's beginning really closes
                return
        raise AssertionError("the device does not come to rest")

    def rx_address(self, head: int) -> int:
        return (1 << 20) + head * 0x10000

    def supply(self, count: int) -> None:
        """Gives the device empty buffers, one per descriptor."""
        for head in range(count):
            self.rings[RX].describe(head, Descriptor(self.rx_address(head), self.rx_size, WRITE))
            self.rings[RX].offer(head)
        self.rings[RX].notify()
        self.settle()

    def transmit(self, descriptors: Sequence[Descriptor]) -> None:
        """Sends one chain in descriptors 0, 1, ..."""
        for index, descriptor in enumerate(descriptors):
            self.rings[TX].describe(index, descriptor)
        self.rings[TX].offer(0)
        self.rings[TX].notify()
        self.settle()

    def write(self, address: int, data: bytes) -> None:
        self.memory[address : address + len(data)] = data

    def packet(self, op: int, host: int, guest: int, data: bytes = b"", **changes: int) -> None:
        """Sends one packet of the guest: header and data in one buffer."""
        changes = {"length": len(data), **changes}
        self.write(2 << 20, self.header(op, host, guest, **changes) + data)
        self.transmit([Descriptor(2 << 20, 44 + len(data))])

    @staticmethod
    def header(op: int, host: int, guest: int, length: int = 0, **changes: int) -> bytes:
        header = Header(CID, 2, guest, host, length, 1, op, 0, WINDOW, 0)
        return HEADER.pack(*header._replace(**changes))

    def received(self) -> list[Packet]:
        """The packets that reached the guest since the last time; their buffers are offered again."""
        packets: list[Packet] = []
        while used := self.rings[RX].take_used():
            for head, length in used:
                if not self.sane and (head >= SIZE or length < HEADER.size):
                    continue
                start = self.rx_address(head)
                raw = bytes(self.memory[start : start + length])
                packets.append(Packet(Header._make(HEADER.unpack_from(raw)), raw[44:]))
                if self.keep_receiving:
                    self.rings[RX].offer(head)
            self.rings[RX].notify()
            self.settle()
        return packets

    def only(self) -> Packet:
        """The one packet that reached the guest."""
        packets = self.received()
        assert len(packets) == 1, packets
        return packets[0]

    # --- both sides at once

    @contextmanager
    def listener(self, port: int, backlog: int = 16) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as sock:
            path = Path(f"{self.base}_{port}")
            sock.bind(str(path))
            sock.listen(backlog)
            yield sock
            path.unlink()

    def dial(self, listener: socket.socket, host: int, guest: int, **changes: int) -> socket.socket:
        """A connection made by the guest; the host's end."""
        self.packet(Op.REQUEST, host, guest, **changes)
        sock = self.accept(listener)
        assert self.only().op is Op.RESPONSE
        return sock

    def accept(self, listener: socket.socket) -> socket.socket:
        """The host's end of a connection; closed at the end of the test at the latest."""
        sock, _ = listener.accept()
        sock.settimeout(10)
        self.sockets.append(sock)
        return sock

    def call(self, guest: int) -> tuple[socket.socket, int]:
        """A connection made by the host; the host's end and its port."""
        sock = self.knock(b"CONNECT %d\n" % guest)
        request = self.only()
        assert (request.op, request.header.dst_port) == (Op.REQUEST, guest)
        host = request.header.src_port
        self.packet(Op.RESPONSE, host, guest)
        assert sock.recv(64) == b"OK %d\n" % host
        return sock, host

    def knock(self, line: bytes) -> socket.socket:
        """Connects to BASE and says something."""
        sock = socket.socket(socket.AF_UNIX)
        self.sockets.append(sock)
        sock.settimeout(10)
        sock.connect(str(self.base))
        sock.sendall(line)
        self.settle()
        return sock


@contextmanager
def guest(*, lent: bool = False) -> Iterator[Guest]:
    """A device with a front-end that has not said anything yet.

    `lent`: it cannot map the guest's memory, and gets a file in which that lies at the front-end's addresses.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.joinpath("host").mkdir()
        front, back = socket.socketpair()
        stack.callback(front.close)
        front.settimeout(10)
        words = ["--ctl-fd", str(back.detach()), "--base", f"{directory}/vsock", "--cid", str(CID)]
        words += ["--host-dir", f"{directory}/host"]
        memfd = os.memfd_create("guest")
        stack.callback(os.close, memfd)
        start = USER if lent else 0
        os.ftruncate(memfd, start + MEMORY)
        memory = stack.enter_context(mmap.mmap(memfd, MEMORY, offset=start))
        if lent:
            lender, borrower = socket.socketpair()
            with lender:
                socket.send_fds(lender, [b"m"], [memfd])
            words += ["--memory-fd", str(borrower.detach())]
        process = Process(Arguments(words), stack)
        machine = Guest(process, front, memory, memfd, directory)
        if lent:
            machine.second = USER + MEMORY // 2
        for index in (RX, TX):
            machine.rings.append(DriverRing(memory, 0x1000 * (index + 1)))
            stack.callback(machine.rings[index].close)
        yield machine
        for sock in machine.sockets:
            sock.close()
