"""What each target does with one input, which is any bytes."""

import os
import struct
from collections.abc import Callable
from typing import Any
from unittest import mock

from avf.binder import (
    DeadObjectError,
    FdMode,
    ProtocolError,
    RemoteException,
    StatusError,
    wire,
)
from avf.binder.codecs import codec_for
from avf.binder.dispatch import execute
from avf.binder.fd import close_fds
from avf.binder.handshake import ConnectionHeader, check_init, check_response, negotiate
from avf.binder.incoming import check_frame
from avf.binder.methods import Method
from avf.binder.objects import Handle
from avf.binder.parcel import Parcel, ParcelReader, refused
from avf.binder.session import Frame, SessionCore

from .contract import Choice, Fuzzed, Grid, IFuzz, Key, Level, Tree

_contract = IFuzz._contract
assert _contract is not None
METHODS = _contract.methods()
_NULL = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
TYPES: list[Any] = [
    Tree,
    Choice,
    Grid,
    Key,
    list[Level],
    list[Tree | None] | None,
    str | None,
    list[str],
]


class Refused(Exception):
    """The input was not what the target reads."""


class _End:
    """One end of a session whose peer is the input."""

    ended = False

    def __init__(self, *, server: bool, version: int) -> None:
        self.root = Fuzzed()
        self.core = SessionCore(
            server=server,
            version=version,
            fd_mode=FdMode.UNIX,
            max_threads=2,
            session_id=b"s" * 32,
            root=lambda: self.root,
        )
        self.core.remote = self
        if server:  # the peer has the root
            parcel = self.core.reply_parcel()
            parcel.write_binder(self.root)

    def parcel(self) -> Parcel:
        return self.core.request_parcel()

    def call(self, handle: Handle, method: Method, args: tuple[Any, ...]) -> Any:
        raise DeadObjectError("there is nobody to call")

    def begin(self, handle: Handle, method: Method, args: tuple[Any, ...], kind: Any) -> None:
        raise DeadObjectError("there is nobody to call")

    def transact(self, handle: Handle | None, code: int, parcel: Parcel) -> ParcelReader:
        raise DeadObjectError("there is nobody to call")

    def release(self, handle: Handle) -> None:
        self.core.release(handle)

    def link_to_death(self, handle: Handle, recipient: Callable[[], None]) -> None:
        raise DeadObjectError("there is nobody to watch")

    def take(self, command: int, body: bytes, fds: list[int] | None) -> None:
        """As the threads of an endpoint do."""
        core = self.core
        if command == wire.DEC_STRONG:
            close_fds(fds or ())
            core.dec_strong(body)
        elif command == wire.REPLY:
            self._answer(body, fds)
        else:
            call = core.receive(body, fds)
            while call is not None:
                result = execute(core, call)
                if not call.oneway:
                    _sent(core.finish(call.node, result))
                    break
                if isinstance(result, Parcel):
                    result.discard()
                    result.close_descriptors()
                call = core.next_oneway(call)
        core.returns()
        core.tell_released()

    def _answer(self, body: bytes, fds: list[int] | None) -> None:
        """The reply to a call of the method that its size picks."""
        method = list(METHODS.values())[len(body) % len(METHODS)]
        reader = self.core.answer(body, fds)
        try:
            method.read_result(reader)
        finally:
            reader.close()
            reader.close_taken()

    def check(self) -> None:
        for node in self.core.table.nodes.values():
            assert node.times_sent >= 0
            assert node.times_received >= 0
            assert node.times_sent or node.times_received or node.handle is not None

    def end(self) -> None:
        handles = self.core.lose()
        assert handles is not None
        self.core.tell_dead(handles)
        assert self.core.end()
        self.core.tell_released()
        assert not self.core.table.nodes
        assert self.root._holds == 0


def _sent(frame: Frame) -> None:
    """What is to be sent can be sent, and read again."""
    data = bytes(frame.before) + bytes(frame.data)
    while data:
        command, size = struct.unpack_from("<II", data)
        check_frame(command, size)
        assert len(data) >= 16 + size
        data = data[16 + size :]
    if frame.parcel is not None:
        frame.parcel.filenos()
        frame.parcel.close_descriptors()


def _session(data: bytes, *, server: bool) -> None:
    """Frames of a peer. The first byte is the version; a frame brings as many descriptors as its ninth byte says."""
    end = _End(server=server, version=(data[0] if data else 0) % (wire.MAX_VERSION + 1))
    data = data[1:]
    try:
        while len(data) >= wire.HEADER_SIZE:
            command, size = struct.unpack_from("<II", data)
            check_frame(command, size)
            body = data[16 : 16 + size]
            if len(body) < size:
                raise Refused
            fds = [os.dup(_NULL) for _ in range(data[8] & 3)] or None
            data = data[16 + size :]
            try:
                end.take(command, body, fds)
            except (StatusError, RemoteException):
                if command != wire.REPLY:
                    raise
            end.check()
    finally:
        end.end()


def server(data: bytes) -> None:
    _session(data, server=True)


def client(data: bytes) -> None:
    _session(data, server=False)


def values(data: bytes) -> None:
    """What is read can be written, and is the same when read again. The first byte picks the type."""
    codec = codec_for(TYPES[(data[0] if data else 0) % len(TYPES)])
    reader = ParcelReader(data[1:])
    try:
        value = codec.read(reader)
    except Exception as error:
        raise refused(error, "value") from error
    parcel = Parcel()
    try:
        codec.write(parcel, value)
    except StatusError:
        return  # a binder or descriptor that came as null where it cannot be
    again = ParcelReader(parcel.payload())
    assert codec.read(again) == value
    assert again.pos == again.end


def handshake(data: bytes) -> None:
    if len(data) < 24:
        raise Refused
    header = ConnectionHeader.unpack(data[:16])
    assert ConnectionHeader.unpack(header.pack()).new_session == header.new_session
    assert 0 <= negotiate(header.version, wire.MAX_VERSION) <= wire.MAX_VERSION
    check_init(data[16:24])
    check_response(data[8:16], wire.MAX_VERSION)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "client": client,
    "handshake": handshake,
    "server": server,
    "values": values,
}


def run(name: str, data: bytes) -> bool:
    """Run a target; True if it accepted the input, False if it ends the session. No descriptor may stay open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - it is counted for every input
    faults: list[BaseException] = []
    try:
        with mock.patch("avf.binder.dispatch.report", faults.append):
            TARGETS[name](data)
    except (ProtocolError, StatusError, Refused):
        return False
    finally:
        assert not faults, faults
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    return True
