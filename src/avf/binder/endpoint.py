"""A session end that makes calls, too: what proxies call through.

A sync call made while serving a sync call goes out on the connection being served, where the peer is waiting.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from . import idle, wire
from .connection import Connection
from .errors import DeadObjectError, Status, StatusError
from .methods import Method
from .objects import Handle
from .parcel import Parcel, ParcelReader
from .peer import running
from .serving import ServingEnd
from .session import SessionCore
from .session_end import BROKEN

_ANSWER_HEAD = wire.ANSWER_FRAME.size
_POSTS = 64
"""Oneway calls sent on a connection before what has come back on it is read."""


class Begun(Protocol):
    """A call that is to be sent, and whose reply is taken as it comes."""

    def send(self, frame: bytes | bytearray) -> None: ...


_B = TypeVar("_B", bound=Begun)


_Kind = Callable[["Endpoint", Connection, Handle, Method], _B]


class Endpoint(ServingEnd):
    """Makes and serves the calls of one session end. Closed by `end`, by the peer, or with its last object.

    When the peer goes, the calls made here fail at once, but what it had sent by then is still served.
    """

    def __init__(
        self,
        core: SessionCore,
        on_end: Callable[[], None] = lambda: None,
        *,
        frame_timeout: float | None = None,
        party: tuple[bool, bytes | None] = (False, None),
    ) -> None:
        super().__init__(core, on_end, frame_timeout=frame_timeout, party=party)
        core.remote = self

    # Calls as values

    def parcel(self) -> Parcel:
        return self.core.request_parcel()

    def call(self, handle: Handle, method: Method, args: tuple[Any, ...]) -> Any:
        """An AIDL call through a proxy."""
        fixed, parcel = method.fixed_request, None
        frame: bytes | bytearray | None = None
        if fixed is not None:
            frame = fixed.frame(handle.node.address, args)
        if frame is None:
            parcel = self._written(method, args)
            if method.oneway:
                self._post(handle, method.code, parcel)
                return None
            frame = self.core.plain_request(handle, method.code, parcel)
        lent = self._lend(handle) if frame is not None else None
        if lent is not None and frame is not None:
            return self.ask(lent, handle, method, frame)
        return self._call(handle, method, self._written(method, args) if parcel is None else parcel)

    def _written(self, method: Method, args: tuple[Any, ...]) -> Parcel:
        parcel = self.core.request_parcel()
        try:
            method.write_arguments(parcel, args)
        except BaseException:
            parcel.discard()
            raise
        return parcel

    def _lend(self, handle: Handle) -> Connection | None:
        """The connection for a sync call that needs nothing else, which is now counted as sent; None for other calls,
        with nothing done.
        """
        if self in running.context.connections:
            return None
        core = self.core
        with core.lock:
            if core.lost or core.version == 0 or handle.closed:
                return None
            connection = self._outgoing.take_current()
            if connection is None:
                return None
            node = handle.node
            node.times_sent += 1
            node.hold = handle
        connection.fresh = True
        if connection.watched:
            idle.reader.forget(connection)
        return connection

    def ask(
        self,
        connection: Connection,
        handle: Handle,
        method: Method,
        frame: bytes | bytearray | memoryview,
    ) -> Any:
        """A call whose frame is ready, on a connection that `_lend` has lent for it."""
        reader = given_back = None
        try:
            try:
                piece = connection.ask(frame)
                if piece is not None:
                    given_back = wire.plain_answer(piece)
                    if given_back is None:
                        connection.unread(piece)
                    else:
                        fixed = method.fixed_reply
                        values = None if fixed is None else fixed.values(piece)
                        if values is not None:
                            return values[0] if values else None
                        reader = ParcelReader(piece, _ANSWER_HEAD, self.core)
            except BaseException as error:
                failure = self.failed(error)
                if failure is error:
                    raise
                raise failure from error
            if reader is None:
                reader = self._await_reply(connection)
            return method.read_result(reader)
        except BaseException:
            if reader is not None:
                reader.close_taken()
            raise
        finally:
            if reader is not None:
                reader.close()
            self.settle_call(connection, handle, given_back)

    def settle_call(
        self,
        connection: Connection,
        handle: Handle,
        given_back: tuple[int, int] | None,
        *,
        in_passing: bool = False,
    ) -> None:
        """Gives a lent connection back, and counts what the peer has given back right before its reply."""
        core, table = self.core, self.core.table
        with core.lock:
            if given_back is not None and table.given_back(handle, *given_back):
                given_back = None
                due = core.attention or core.owing or table.released or table.ready
                if self._told and not due and self._outgoing.put_back(connection):
                    return
        if given_back is not None:
            core.given_back(*given_back)
        self._give_back(connection, in_passing=in_passing)

    def begin(
        self,
        handle: Handle,
        method: Method,
        args: tuple[Any, ...],
        kind: "Callable[[Endpoint, Connection, Handle, Method], _B]",
    ) -> "_B | None":
        """Sends a sync call without waiting for anything; None if it might have to wait before, and nothing is done."""
        current = self._outgoing.current()
        if method.oneway or current is None or current.lent or not current.can_be_polled:
            return None
        fixed, parcel = method.fixed_request, None
        frame: bytes | bytearray | None = None
        if fixed is not None:
            frame = fixed.frame(handle.node.address, args)
        if frame is None:
            parcel = self._written(method, args)
            frame = self.core.plain_request(handle, method.code, parcel)
        connection = None if frame is None else self._lend(handle)
        if connection is None or frame is None:
            if parcel is not None:
                parcel.discard()
            return None
        begun = kind(self, connection, handle, method)
        begun.send(frame)
        return begun

    def _call(self, handle: Handle, method: Method, parcel: Parcel) -> Any:
        reader = None
        connection, borrowed = self._for_sync_call(parcel)
        try:
            reader = self._exchange(connection, handle, method.code, parcel)
            return method.read_result(reader)
        except BaseException:
            if reader is not None:
                reader.close_taken()
            raise
        finally:
            if reader is not None:
                reader.close()
            if borrowed:
                self._give_back(connection)

    # Calls as parcels

    def transact(self, handle: Handle | None, code: int, parcel: Parcel) -> ParcelReader:
        """A sync call as parcels; the reader is the caller's to close."""
        connection, borrowed = self._for_sync_call(parcel)
        try:
            return self._exchange(connection, handle, code, parcel)
        finally:
            if borrowed:
                self._give_back(connection)

    def _for_sync_call(self, parcel: Parcel) -> tuple[Connection, bool]:
        nested = running.context.connections.get(self)
        if nested is not None:
            return nested, False  # type: ignore[return-value]
        return self._borrow(parcel, oneway=False), True

    def _borrow(self, parcel: Parcel, *, oneway: bool) -> Connection:
        """An outgoing connection, for a call with this parcel."""
        try:
            connection = self._outgoing.borrow(oneway=oneway)
        except BaseException:
            parcel.discard()
            raise
        connection.fresh = True
        if connection.watched:
            idle.reader.forget(connection)
        return connection

    def _post(self, handle: Handle, code: int, parcel: Parcel) -> None:
        connection = self._borrow(parcel, oneway=True)
        try:
            self._send_request(connection, handle, code, parcel, oneway=True)
            connection.posts += 1
            if connection.posts % _POSTS == 0:
                self._read_returns(connection)
        finally:
            self._give_back(connection)

    def _send_request(
        self,
        connection: Connection,
        handle: Handle | None,
        code: int,
        parcel: Parcel,
        *,
        oneway: bool,
    ) -> None:
        try:
            if parcel.descriptors:
                parcel.filenos()  # raises if one has been closed meanwhile
            frame = self.core.request(handle, code, parcel, oneway=oneway)
        except BaseException:
            parcel.discard()
            raise
        try:
            connection.send_frame(frame)
        except BROKEN as error:
            self._broken(error)
            raise DeadObjectError(str(error)) from error
        except BaseException:
            self.end()
            raise

    def _exchange(
        self, connection: Connection, handle: Handle | None, code: int, parcel: Parcel
    ) -> ParcelReader:
        self._send_request(connection, handle, code, parcel, oneway=False)
        return self._await_reply(connection)

    def _await_reply(self, connection: Connection) -> ParcelReader:
        """What a call that was sent is answered with. Serves the calls that come before."""
        core = self.core
        try:
            while True:
                command, body, fds = connection.read_frame()
                if command == wire.REPLY:
                    return core.answer(body, fds)
                if command == wire.DEC_STRONG:
                    core.dec_strong(body)
                else:
                    self._serve_call(connection, body, fds)
        except BaseException as error:
            failure = self.failed(error)
            if failure is error:
                raise
            raise failure from error

    # Objects

    def release(self, handle: Handle) -> None:
        self.core.release(handle)
        self._collect()

    def link_to_death(self, handle: Handle, recipient: Callable[[], None]) -> None:
        with self.core.lock:
            if self.core.lost or handle.closed:
                raise DeadObjectError("the session has ended")
            if not self._serving:
                raise StatusError(
                    Status.INVALID_OPERATION, "a session without incoming threads notices no death"
                )
            self.core.table.link(handle.node)
            handle.recipients.append(recipient)

    def unlink_to_death(self, handle: Handle, recipient: Callable[[], None]) -> bool:
        """Whether the recipient was linked."""
        with self.core.lock:
            if recipient not in handle.recipients:
                return False
            handle.recipients.remove(recipient)
            self.core.table.unlink(handle.node)
            return True
