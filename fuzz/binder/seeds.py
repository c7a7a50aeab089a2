"""Good inputs of every target, to start from."""

import os
import struct
from typing import Any

from avf.binder import IBinder, Parcelable, ParcelableHolder, ParcelFileDescriptor, Status, wire
from avf.binder.codecs import codec_for
from avf.binder.handshake import INIT, ConnectionHeader
from avf.binder.parcel import Parcel
from avf.binder.session import SessionCore

from .contract import Choice, Fuzzed, Level, Tree
from .targets import METHODS, TYPES

_ROOT = wire.address(0, for_server=True)


def _frame(command: int, body: bytes, fds: int = 0) -> bytes:
    return struct.pack("<IIB7x", command, len(body), fds) + body


def _call(core: SessionCore, code: int, *args: Any, number: int = 0) -> bytes:
    """A call of the root's method as its peer would send it."""
    method = METHODS[code]
    parcel = Parcel(table=core, fds_refused=Status.OK)
    method.write_arguments(parcel, args)
    flags = wire.FLAG_ONEWAY if method.oneway else 0
    body = struct.pack("<QIIQI12x", _ROOT, code, flags, number, len(parcel))
    body += parcel.payload() + parcel.object_table()
    return _frame(wire.TRANSACT, body, len(parcel.descriptors))


def _reply(core: SessionCore, code: int, *values: Any) -> bytes:
    """A reply of the size that makes the target take it for one of this method."""
    parcel = Parcel(table=core, fds_refused=Status.OK)
    METHODS[code].write_result(parcel, values if len(values) > 1 else values[0])
    table = parcel.object_table() if core.version else b""
    head = struct.pack("<iI12x", 0, len(parcel)) if core.version else struct.pack("<i", 0)
    return _frame(wire.REPLY, head + parcel.payload() + table, len(parcel.descriptors))


def _core(version: int, *, server: bool) -> SessionCore:
    core = SessionCore(server=server, version=version, fd_mode=wire.FdMode.UNIX)
    core.remote = None
    return core


def _tree(binder: IBinder | None, file: ParcelFileDescriptor | None) -> Tree:
    leaf = Tree(value=-1, name="leaf", level=Level.FULL)
    return Tree(left=leaf, more=[None, leaf], held=ParcelableHolder(leaf), binder=binder, file=file)


def _requests(version: int) -> bytes:
    core = _core(version, server=False)
    mine = Fuzzed()
    data = bytes([version])
    for code in (wire.SPECIAL_GET_ROOT, wire.SPECIAL_GET_MAX_THREADS, wire.SPECIAL_GET_SESSION_ID):
        data += _frame(wire.TRANSACT, struct.pack("<QIIQI12x", 0, code, 0, 0, 0))
    data += _call(core, 1, True, -1, "x", 5, 6, 0.5, 1.5, Level.FULL)
    data += _call(core, 2, b"ab", ["x", ""], [Level.FULL], [[1, 2], [3, 4]], b"abcd", ["y"])
    data += _call(core, 4, mine, None, [mine])
    data += _call(core, 6, -8, "message")
    data += _call(core, 7, 1, mine, number=1)
    data += _call(core, 7, 0, None, number=0)
    data += _call(core, 8, mine)
    data += _call(core, 0x00FFFFFF)
    with ParcelFileDescriptor(os.open("/dev/null", os.O_RDONLY)) as file:
        carried = file if version else None
        data += _call(core, 3, _tree(mine, carried), Choice(number=1), _tree(None, None))
        if version:
            data += _call(core, 5, [file, file])
    for code in (wire.PING, wire.INTERFACE, wire.EXTENSION, wire.DEBUG_PID):
        data += _frame(wire.TRANSACT, struct.pack("<QIIQI12x", _ROOT, code, 0, 0, 0))
    return data + _frame(wire.DEC_STRONG, struct.pack("<QI4x", _ROOT, 1))


def _replies(version: int) -> bytes:
    core = _core(version, server=True)
    data = bytes([version])
    data += _reply(core, 1, True, -1, "x", 5, 6, 0.5, 1.5, Level.FULL)
    data += _reply(core, 2, b"ab", ["x", ""], [Level.FULL], [[1, 2], [3, 4]], b"abcd", ["y"])
    data += _reply(core, 3, _tree(None, None), Choice(names=["a"]))
    data += _reply(core, 8, Fuzzed())
    head = b"" if version == 0 else struct.pack("<I12x", 0)
    return data + _frame(wire.REPLY, struct.pack("<i", Status.BAD_VALUE) + head)


def _value(index: int, value: Any) -> bytes:
    parcel = Parcel()
    codec_for(TYPES[index]).write(parcel, value)
    return bytes([index]) + parcel.payload()


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    trees: list[Parcelable | None] = [_tree(None, None), None]
    values = [
        trees[0],
        Choice(names=["a"]),
        [[1, 2], [3, 4]],
        b"abcd",
        [Level.FULL],
        trees,
        "\ud800",
        ["a"],
    ]
    header = ConnectionHeader(1, incoming=False, fd_mode=0, new_session=True)
    return {
        "client": [_replies(version) for version in (0, 1, 2)],
        "handshake": [header.pack() + INIT],
        "server": [_requests(version) for version in (0, 1, 2)],
        "values": [_value(index, value) for index, value in enumerate(values)],
    }
