"""The control stream: vhost-user messages of the front-end, one at a time (QEMU, docs/interop/vhost-user).

Only what a vsock device needs. Every size and every count of descriptors is checked; a message that makes no sense is
refused if the front-end asked for an answer, and changes nothing.
"""

import array
import os
import socket
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from avf.vsock.device.errors import ControlLost, FrontEndError

VERSION = 1
REPLY = 4
NEED_REPLY = 8

FEATURE_EVENT_IDX = 1 << 29
FEATURE_PROTOCOL = 1 << 30
FEATURE_VERSION_1 = 1 << 32
FEATURES = FEATURE_EVENT_IDX | FEATURE_PROTOCOL | FEATURE_VERSION_1

PROTOCOL_MQ = 1 << 0
PROTOCOL_REPLY_ACK = 1 << 3
PROTOCOL_CONFIG = 1 << 9
PROTOCOL_FEATURES = PROTOCOL_MQ | PROTOCOL_REPLY_ACK | PROTOCOL_CONFIG

QUEUES = 3
"""For the guest to receive, to send, and to hear of events. Some front-ends serve the last one themselves."""
REGIONS_MAX = 8
CONFIG_MAX = 256

_HEADER = struct.Struct("=III")
_U64 = struct.Struct("=Q")
_STATE = struct.Struct("=II")
_ADDRESS = struct.Struct("=IIQQQQ")
_MEMORY = struct.Struct("=II")
_REGION = struct.Struct("=QQQQ")
_CONFIG = struct.Struct("=III")
_PAYLOAD_MAX = 1024
_NO_DESCRIPTOR = 0x100
_QUEUE_MASK = 0xFF


class Request(IntEnum):
    """The messages a vsock device understands."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    GET_CONFIG = 24


class Backend(Protocol):
    """What the messages ask for. Methods raise FrontEndError to refuse; descriptors passed to them are theirs."""

    def config(self) -> bytes: ...
    def set_features(self, features: int) -> None: ...
    def set_memory(self, regions: list[tuple[int, int, int, int, int]]) -> None:
        """(fd, guest-physical address, size, front-end address, offset in the file) each; fds stay the caller's."""

    def set_size(self, queue: int, size: int) -> None: ...
    def set_addresses(self, queue: int, desc: int, avail: int, used: int) -> None: ...
    def set_base(self, queue: int, base: int) -> None: ...
    def stop(self, queue: int) -> int: ...
    def set_kick(self, queue: int, fd: int) -> None: ...
    def set_call(self, queue: int, fd: int | None) -> None: ...
    def enable(self, queue: int, on: bool) -> None: ...
    def reset(self) -> None: ...


class Message:
    """One request, its payload, and the descriptors nobody has taken yet."""

    __slots__ = ("fds", "payload", "request")

    def __init__(self, request: int, payload: bytes, fds: list[int]) -> None:
        self.request = request
        self.payload = payload
        self.fds = fds

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """The payload, which must be exactly that. Raises FrontEndError."""
        if len(self.payload) != layout.size:
            raise FrontEndError(f"payload of {len(self.payload)} bytes instead of {layout.size}")
        return layout.unpack(self.payload)

    def queue_and_number(self) -> tuple[int, int]:
        """The payload as a queue and a number that belongs to it. Raises FrontEndError."""
        index, number = self.unpack(_STATE)
        return check_queue(index), number

    def queue_and_descriptor(self) -> tuple[int, int | None]:
        """The payload as a queue and the one descriptor that came along, which is the caller's now, or none."""
        (value,) = self.unpack(_U64)
        if value & ~(_QUEUE_MASK | _NO_DESCRIPTOR):
            raise FrontEndError(f"unknown bits in {value:#x}")
        queue = check_queue(value & _QUEUE_MASK)
        expected = 0 if value & _NO_DESCRIPTOR else 1
        if len(self.fds) != expected:
            raise FrontEndError(f"{len(self.fds)} descriptors instead of {expected}")
        return queue, self.fds.pop() if expected else None

    def close(self) -> None:
        """Closes what nobody took."""
        while self.fds:
            os.close(self.fds.pop())


def check_queue(index: int) -> int:
    """Returns `index` if there is such a queue. Raises FrontEndError."""
    if index >= QUEUES:
        raise FrontEndError(f"there is no queue {index}")
    return index


class ControlStream:
    """Reads messages from the control socket without ever blocking or reading past one, and answers them."""

    def __init__(self, sock: socket.socket, backend: Backend, log: Callable[[str], None]) -> None:
        """Takes the socket over."""
        sock.setblocking(False)
        self.sock = sock
        self._backend = backend
        self._log = log
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._reply_ack = False
        self._handlers: dict[int, Callable[[Message], bytes | None]] = {
            Request.GET_FEATURES: lambda m: _U64.pack(FEATURES),
            Request.SET_FEATURES: self._set_features,
            Request.SET_OWNER: self._nothing,
            Request.RESET_OWNER: self._reset,
            Request.SET_MEM_TABLE: self._set_memory,
            Request.SET_VRING_NUM: self._set_size,
            Request.SET_VRING_ADDR: self._set_addresses,
            Request.SET_VRING_BASE: self._set_base,
            Request.GET_VRING_BASE: self._stop,
            Request.SET_VRING_KICK: self._set_kick,
            Request.SET_VRING_CALL: self._set_call,
            Request.SET_VRING_ERR: self._set_err,
            Request.GET_PROTOCOL_FEATURES: lambda m: _U64.pack(PROTOCOL_FEATURES),
            Request.SET_PROTOCOL_FEATURES: self._set_protocol_features,
            Request.GET_QUEUE_NUM: lambda m: _U64.pack(QUEUES),
            Request.SET_VRING_ENABLE: self._enable,
            Request.GET_CONFIG: self._get_config,
        }

    def receive(self) -> bool:
        """Handles all messages that are there; False at end of file. Raises ControlLost."""
        try:
            while self._fill():
                self._dispatch()
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        return False

    def close(self) -> None:
        """Closes the socket and descriptors of a message cut short."""
        self.sock.close()
        Message(0, b"", self._fds).close()

    # --- the stream

    def _fill(self) -> bool:
        """Completes one message in the buffer; False at end of file."""
        while (missing := self._missing()) > 0:
            data, ancillary, flags, _ = self.sock.recvmsg(
                missing, socket.CMSG_SPACE(4 * REGIONS_MAX), socket.MSG_CMSG_CLOEXEC
            )
            self._take_descriptors(ancillary)
            if flags & socket.MSG_CTRUNC or len(self._fds) > REGIONS_MAX:
                raise ControlLost("too many descriptors")
            if not data:
                return False
            self._buffer += data
        return True

    def _missing(self) -> int:
        if len(self._buffer) < _HEADER.size:
            return _HEADER.size - len(self._buffer)
        request, flags, size = _HEADER.unpack_from(self._buffer)
        if size > _PAYLOAD_MAX or flags & 3 != VERSION:
            raise ControlLost(f"request {request}: flags {flags:#x}, size {size}")
        return int(size) + _HEADER.size - len(self._buffer)

    def _take_descriptors(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
                self._fds += numbers

    def _dispatch(self) -> None:
        request, flags, _ = _HEADER.unpack_from(self._buffer)
        message = Message(request, bytes(self._buffer[_HEADER.size :]), self._fds)
        self._buffer.clear()
        self._fds = []
        answer: bytes | None = None
        failed = 0
        try:
            answer = self._handle(message)
        except FrontEndError as error:
            failed = 1
            self._log(f"refused {_name(request)}: {error}")
        finally:
            message.close()
        if answer is not None:
            self._reply(request, answer)
        elif flags & NEED_REPLY and self._reply_ack:
            self._reply(request, _U64.pack(failed))

    def _handle(self, message: Message) -> bytes | None:
        handler = self._handlers.get(message.request)
        if handler is None:
            raise FrontEndError("unknown request")
        return handler(message)

    def _reply(self, request: int, payload: bytes) -> None:
        frame = _HEADER.pack(request, VERSION | REPLY, len(payload)) + payload
        try:
            sent = self.sock.send(frame)
        except BlockingIOError:
            sent = 0
        if sent != len(frame):
            raise ControlLost("the front-end does not read its answers")

    # --- the messages

    def _nothing(self, message: Message) -> None:
        return None

    def _reset(self, message: Message) -> None:
        self._backend.reset()

    def _set_features(self, message: Message) -> None:
        (features,) = message.unpack(_U64)
        if features & ~FEATURES:
            raise FrontEndError(f"features {features:#x} were not offered")
        self._backend.set_features(features)

    def _set_protocol_features(self, message: Message) -> None:
        (features,) = message.unpack(_U64)
        if features & ~PROTOCOL_FEATURES:
            raise FrontEndError(f"protocol features {features:#x} were not offered")
        self._reply_ack = bool(features & PROTOCOL_REPLY_ACK)

    def _set_memory(self, message: Message) -> None:
        payload = message.payload
        if len(payload) < _MEMORY.size:
            raise FrontEndError("no count of regions")
        count, _ = _MEMORY.unpack_from(payload)
        if not 0 < count <= REGIONS_MAX or len(payload) != _MEMORY.size + count * _REGION.size:
            raise FrontEndError(f"{count} regions in {len(payload)} bytes")
        if len(message.fds) != count:
            raise FrontEndError(f"{len(message.fds)} descriptors for {count} regions")
        regions = []
        for index, fd in enumerate(message.fds):
            place = _MEMORY.size + index * _REGION.size
            gpa, size, user, offset = _REGION.unpack_from(payload, place)
            regions.append((fd, gpa, size, user, offset))
        self._backend.set_memory(regions)

    def _set_size(self, message: Message) -> None:
        self._backend.set_size(*message.queue_and_number())

    def _set_addresses(self, message: Message) -> None:
        index, flags, desc, used, avail, _log = message.unpack(_ADDRESS)
        if flags:
            raise FrontEndError(f"ring flags {flags:#x}: dirty pages are not logged here")
        self._backend.set_addresses(check_queue(index), desc, avail, used)

    def _set_base(self, message: Message) -> None:
        self._backend.set_base(*message.queue_and_number())

    def _stop(self, message: Message) -> bytes:
        queue, _ = message.queue_and_number()
        return _STATE.pack(queue, self._backend.stop(queue))

    def _set_kick(self, message: Message) -> None:
        queue, fd = message.queue_and_descriptor()
        if fd is None:
            raise FrontEndError("a queue without a kick would have to be polled")
        self._backend.set_kick(queue, fd)

    def _set_call(self, message: Message) -> None:
        self._backend.set_call(*message.queue_and_descriptor())

    def _set_err(self, message: Message) -> None:
        _, fd = message.queue_and_descriptor()
        if fd is not None:
            os.close(fd)

    def _enable(self, message: Message) -> None:
        queue, on = message.queue_and_number()
        self._backend.enable(queue, bool(on))

    def _get_config(self, message: Message) -> bytes:
        """The part asked for; a reply without payload says that there is no such part."""
        if len(message.payload) < _CONFIG.size:
            return b""
        offset, size, _flags = _CONFIG.unpack_from(message.payload)
        part = self._backend.config()[offset : offset + size]
        if len(message.payload) != _CONFIG.size + size or len(part) != size:
            return b""
        return message.payload[: _CONFIG.size] + part


def _name(request: int) -> str:
    try:
        return Request(request).name
    except ValueError:
        return f"request {request}"
