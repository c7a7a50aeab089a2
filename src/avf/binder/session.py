"""One end of a session without its sockets: frames in, frames out.

Whoever moves the bytes calls `request` and `answer` around a call of ours, and `receive`, `dispatch.execute` and
`finish` for what comes from the peer. After each it looks at `attention` and, if set, sends `returns` and ends the
session if it is `drained`; and has `tell_released` called when `table.released` holds something. All methods may be
called from any thread. User code runs only in `execute`, `tell_released` and `tell_dead`.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from . import wire
from .budget import Account
from .errors import ProtocolError, Status, StatusError, status_error
from .fd import close_fds
from .objects import Handle, IBinder, Node
from .parcel import BINDER_TYPE, FD_TYPE, Parcel, ParcelReader
from .session_objects import SessionObjects
from .shapes import FixedReply
from .transaction import Transaction

_REQUEST_BASE = wire.TRANSACT_FRAME.size
_REQUEST_HEAD = bytes(_REQUEST_BASE)
_RETURN_ROOM = wire.DEC_STRONG_FRAME.size
_MAX_RETURNS = 64
"""DEC_STRONG frames in one go."""


class Frame:
    """Bytes to send as one message, with the descriptors that go along with its first byte."""

    __slots__ = ("before", "data", "parcel")

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        parcel: Parcel | None = None,
        before: bytes = b"",
    ) -> None:
        self.data = data
        self.parcel = parcel
        """Whose descriptors travel along, if any."""
        self.before = before
        """Frames to be sent first, as a message of their own."""


class SessionCore(SessionObjects):
    """The state of one end of a session."""

    def __init__(
        self,
        *,
        server: bool,
        version: int,
        fd_mode: wire.FdMode = wire.FdMode.NONE,
        max_threads: int = 1,
        session_id: bytes = b"",
        root: Callable[[], IBinder | None] | None = None,
        account: Account | None = None,
    ) -> None:
        super().__init__(
            server=server,
            version=version,
            fd_mode=fd_mode,
            max_threads=max_threads,
            session_id=session_id,
            root=root,
            account=account,
        )
        head = wire.REPLY_FRAME if version >= 1 else wire.REPLY_FRAME_V0
        self._reply_base = _RETURN_ROOM + head.size
        self._reply_head = bytes(self._reply_base)

    # Calls of ours

    def request_parcel(self) -> Parcel:
        """A parcel with room for `request` to put the head into."""
        return Parcel(_REQUEST_HEAD, _REQUEST_BASE, self, self.fds_refused)

    def plain_request(self, handle: Handle, code: int, parcel: Parcel) -> bytearray | None:
        """The frame of a sync call without an object table; None if it has one or is too large. Nothing is counted."""
        data = parcel.data
        size = len(data) - parcel.base
        body = wire.TRANSACT_SIZE + size
        if parcel.positions or body > self.max_body:
            return None
        wire.TRANSACT_FRAME.pack_into(
            data, 0, wire.TRANSACT, body, handle.node.address, code, 0, 0, size
        )
        return data

    def request(self, handle: Handle | None, code: int, parcel: Parcel, *, oneway: bool) -> Frame:
        """The frame of a call; None as a handle is a special transaction. Raises StatusError."""
        data = parcel.data
        size = len(data) - parcel.base
        body = wire.TRANSACT_SIZE + size
        if parcel.positions:
            table = parcel.object_table()
            body += len(table)
            data += table
        if body > self.max_body:
            raise StatusError(
                Status.FAILED_TRANSACTION,
                f"request of {body} bytes, at most {self.max_body} may be sent",
            )
        address = wire.NO_ADDRESS
        number = 0
        if handle is not None:
            node = handle.node
            address = node.address
            with self.lock:
                self._check_reachable()
                handle.check_open()
                node.times_sent += 1
                node.hold = handle
                if oneway:
                    number = node.async_out
                    node.async_out = number + 1
        flags = wire.FLAG_ONEWAY if oneway else 0
        wire.TRANSACT_FRAME.pack_into(
            data, 0, wire.TRANSACT, body, address, code, flags, number, size
        )
        return Frame(data, parcel)

    def answer(self, body: bytes | bytearray, fds: list[int] | None) -> ParcelReader:
        """What a REPLY's body carries.

        Raises StatusError for the transaction's failure, ProtocolError for a bad frame.
        """
        try:
            return self._answer(body, fds)
        except BaseException:
            close_fds(fds or ())
            raise

    def _answer(self, body: bytes | bytearray, fds: list[int] | None) -> ParcelReader:
        if self.version == 0:
            if len(body) < wire.REPLY_BODY_V0.size:
                raise ProtocolError(f"REPLY of {len(body)} bytes")
            (status,) = wire.REPLY_BODY_V0.unpack_from(body)
            if status:
                raise status_error(status)
            return ParcelReader(body, wire.REPLY_BODY_V0.size, self, fds)
        if len(body) < wire.REPLY_BODY.size:
            raise ProtocolError(f"REPLY of {len(body)} bytes")
        status, size = wire.REPLY_BODY.unpack_from(body)
        if status:
            raise status_error(status)
        reader, refusal = self._reader(body, wire.REPLY_BODY.size, size, fds)
        if refusal is not None:
            raise refusal
        return reader

    def _reader(
        self, body: bytes | bytearray, base: int, size: int, fds: list[int] | None
    ) -> tuple[ParcelReader, StatusError | None]:
        """The parcel in a body, and why it has to be refused, if it has."""
        if base + size == len(body) and not fds:
            return ParcelReader(body, base, self), None
        end = base + size
        table_size = len(body) - end
        if table_size < 0 or table_size & 3:
            raise ProtocolError(f"parcel of {size} bytes in a body of {len(body)}")
        if 2 * table_size > size:  # an object takes eight bytes, its position four
            text = f"{table_size >> 2} objects in a parcel of {size} bytes"
            return ParcelReader(b"", table=self, fds=fds), StatusError(Status.BAD_VALUE, text)
        positions = struct.unpack_from(f"<{table_size >> 2}I", body, end)
        reader = ParcelReader(body[:end], base, self, fds, frozenset(positions))
        return reader, self._table_fault(reader, positions, size, len(fds or ()))

    def _table_fault(
        self, reader: ParcelReader, positions: tuple[int, ...], size: int, fds: int
    ) -> StatusError | None:
        """What is wrong with an object table, if anything is."""
        if not self.lists_binders and len(positions) != fds:
            text = f"{fds} file descriptors came for {len(positions)} objects"
            return StatusError(Status.BAD_VALUE, text)
        if any(position + 4 >= size for position in positions):
            return StatusError(Status.BAD_VALUE, "object outside of the parcel")
        if self.lists_binders:
            kinds = [reader.kind_at(position) for position in positions]
            if kinds.count(FD_TYPE) != fds or kinds.count(BINDER_TYPE) + fds != len(kinds):
                text = f"{fds} file descriptors came for {len(kinds)} objects of other types"
                return StatusError(Status.BAD_VALUE, text)
        return None

    # Calls of the peer's

    def receive(self, body: bytes | bytearray, fds: list[int] | None) -> Transaction | None:
        """A TRANSACT's body; None if it has to wait for earlier ones.

        Raises ProtocolError when the session has to end.
        """
        try:
            return self._receive(body, fds)
        except BaseException:
            close_fds(fds or ())
            raise

    def _receive(self, body: bytes | bytearray, fds: list[int] | None) -> Transaction | None:
        if len(body) < wire.TRANSACT_SIZE:
            raise ProtocolError(f"TRANSACT of {len(body)} bytes")
        address, code, flags, number, size = wire.TRANSACT_BODY.unpack_from(body)
        if self.version == 0:
            size = len(body) - wire.TRANSACT_SIZE
        reader, refusal = self._reader(body, wire.TRANSACT_SIZE, size, fds)
        oneway = bool(flags & wire.FLAG_ONEWAY)
        if address & 0xFFFF_FFFF & ~wire.ADDRESS_OPTIONS:
            refusal = StatusError(Status.BAD_VALUE, f"call of binder address {address:#x}")
            address = wire.NO_ADDRESS
        if address == wire.NO_ADDRESS:
            return Transaction(None, None, code, oneway, reader, refusal)
        with self.lock:
            self._check_alive()
            node = self.table.nodes.get(address)
            if node is None or node.local is None:
                raise ProtocolError(f"call of binder address {address:#x}, which is not known here")
            node.times_received += 1
            made = Transaction(node.local, node, code, oneway, reader, refusal)
            return self.table.receive_oneway(node, number, made) if oneway else made

    def receive_plain(self, address: int, target: IBinder) -> Node | None:
        """Counts a sync call without an object table, of an object that has just been found at `address`.

        None, and nothing is done, if there is more to see to.
        """
        with self.lock:
            node = self.table.nodes.get(address)
            if node is None or node.local is not target or self.lost:
                return None
            node.times_received += 1
            return node

    def next_oneway(self, done: Transaction) -> Transaction | None:
        """The oneway call that waited for `done`, if it is there."""
        node = done.node
        if node is None:
            return None
        with self.lock:
            found = self.table.oneway_done(node)
            if found is None:
                self.table.owed.add(node)
                self.owing = True
            return found

    def take_ready(self) -> Transaction | None:
        """A oneway call to be run by whoever has a thread for it."""
        with self.lock:
            return self.table.ready.pop(0) if self.table.ready else None

    def reply_parcel(self) -> Parcel:
        """A parcel with room for `finish` to put the head into."""
        return Parcel(self._reply_head, self._reply_base, self, self.fds_refused)

    def finish(self, node: Node | None, result: Parcel | StatusError) -> Frame:
        """The REPLY frame of a sync call of an object, and the returns due before it."""
        status = 0
        if isinstance(result, StatusError):
            status = result.status or Status.UNKNOWN_ERROR
            result = self.reply_parcel()
        size = len(result.data) - result.base
        table = result.object_table() if result.positions else b""
        if size + len(table) > self.max_body:
            result.discard()
            result.close_descriptors()
            status, size, table = Status.FAILED_TRANSACTION, 0, b""
            result = self.reply_parcel()
        data = result.data
        if self.version >= 1:
            data += table
            body = wire.REPLY_BODY.size + size + len(table)
            wire.REPLY_FRAME.pack_into(data, _RETURN_ROOM, wire.REPLY, body, status, size)
        else:
            body = wire.REPLY_BODY_V0.size + size
            wire.REPLY_FRAME_V0.pack_into(data, _RETURN_ROOM, wire.REPLY, body, status)
        returns = self._returns_after(node)
        if result.descriptors:
            return Frame(memoryview(data)[_RETURN_ROOM:], result, b"".join(returns))
        if len(returns) == 1:
            data[:_RETURN_ROOM] = returns[0]
            return Frame(data)
        return Frame(b"".join([*returns, memoryview(data)[_RETURN_ROOM:]]))

    def finish_plain(self, node: Node, result: Parcel) -> bytearray | None:
        """The answer to a sync call, as one message; None, and nothing is done, if there is more to see to."""
        data = result.data
        size = len(data) - result.base
        if self.version == 0 or result.descriptors or result.positions or size > self.max_body:
            return None
        with self.lock:
            amount = self.table.giving_back(node)
        if not amount:
            return None
        wire.ANSWER_FRAME.pack_into(
            data,
            0,
            wire.DEC_STRONG,
            wire.DEC_STRONG_SIZE,
            node.address,
            amount,
            wire.REPLY,
            wire.REPLY_BODY.size + size,
            0,
            size,
        )
        return data

    def finish_fixed(self, node: Node, reply: FixedReply, values: Sequence[Any]) -> bytes | None:
        """The same for values of fixed size; None also if they do not fit."""
        if self.version == 0:
            return None
        with self.lock:
            amount = self.table.giving_back(node)
        if not amount:
            return None
        try:
            return reply.frames(node.address, amount, values)
        except Exception:  # noqa: BLE001 - writing them one by one tells why
            with self.lock:
                node.times_received += amount
            return None

    def _returns_after(self, node: Node | None) -> list[bytes]:
        table = self.table
        with self.lock:
            if node is not None and not self.ended:
                table.owed.add(node)
            frames = table.returns(_MAX_RETURNS)
            if table.drained or table.owed:
                self.attention = True
        return frames
