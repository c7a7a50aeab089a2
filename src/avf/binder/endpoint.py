"""One end of a session with its sockets: a thread per connection over the session core.

Connections are of two kinds. On *outgoing* ones this end originates calls; each is lent to one call at a time.
*Serving* ones carry the peer's calls; each has a thread of its own. A sync call made while serving a sync call goes
out on the connection being served, where the peer is waiting.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from . import idle, wire
from .budget import OverBudget
from .connection import Connection, TooMuchData, wait_to_read
from .contract import Method
from .dispatch import execute, plain_call
from .errors import DeadObjectError, ProtocolError, Status, StatusError, note, report
from .fd import close_fds
from .objects import Handle
from .outgoing import Outgoing
from .parcel import Parcel, ParcelReader
from .peer import running
from .session import Frame, SessionCore
from .transaction import Transaction

GONE = (OSError, EOFError)
"""What a connection raises when the peer is not there any more."""
BROKEN = (*GONE, ProtocolError)
"""What ends a session when a connection raises it."""

_MAX_OWED_CALLS = 64
"""Oneway calls served before their references are returned, however many more are waiting."""
_MAX_LATE = 10_000
"""Frames read from a connection after the peer has gone."""
_MAX_RETURNS_READ = 1024
"""Frames read in one go from a connection that no call uses."""
_SETTLE_STEP = 0.02
"""Seconds for which `settle` waits in one go."""
_ANSWER_HEAD = wire.ANSWER_FRAME.size
_unpack_answer = wire.ANSWER_FRAME.unpack_from
_POSTS = 64
"""Oneway calls sent on a connection before what has come back on it is read."""


_B = TypeVar("_B", bound="BegunCall")


def _nothing() -> None:
    pass


class Endpoint:
    """Makes and serves the calls of one session end. Closed by `end`, by the peer, or with its last object.

    When the peer goes, the calls made here fail at once, but what it had sent by then is still served.
    """

    def __init__(
        self,
        core: SessionCore,
        on_end: Callable[[], None] = _nothing,
        *,
        frame_timeout: float | None = None,
        party: tuple[bool, bytes | None] = (False, None),
    ) -> None:
        self.core = core
        self.party = party
        """Whose connections it takes, see `Connection.party`."""
        self._frame_timeout = frame_timeout
        core.remote = self
        core.on_garbage = self._collect
        self._on_end = on_end
        self._connections: set[Connection] = set()
        self._outgoing = Outgoing(core.lock)
        self._serving: set[Connection] = set()
        self._complete = False
        """A connection was lost: no more are taken."""
        self._entered = False
        """Whether this end counts with the reader of idle connections."""
        self._told = False
        """Whether that reader knows of free connections here."""

    @property
    def ended(self) -> bool:
        """Whether calls from here cannot reach the peer any more."""
        return self.core.lost

    @property
    def busy(self) -> bool:
        """Whether a call is being served here, or has come and will be."""
        with self.core.lock:
            return any(connection.is_busy() for connection in self._serving)

    # Connections

    def add_outgoing(
        self, connection: Connection, *, limit: int = 1 << 30, greeting: bytes = b""
    ) -> bool:
        """Takes the connection over, unless the session has ended or has `limit` of them.

        The peer may count on it from the first byte of the greeting on, so it is counted before and lent after.
        """
        with self.core.lock:
            if self.core.lost or self._complete or len(self._outgoing) >= limit:
                return False
            connection.on_return = self.core.dec_strong
            connection.session = self
            self._connections.add(connection)
            self._outgoing.add(connection)
            entered, self._entered = self._entered, True
        if not entered:
            idle.reader.enter()
        try:
            if greeting:
                connection.sock.sendall(greeting)
            self.start_frames(connection)
        except OSError:
            self.end()
        self._release(connection)
        return True

    def start_frames(self, connection: Connection) -> None:
        connection.start_frames(
            receive_fds=self.core.receives_fds,
            frame_timeout=self._frame_timeout,
        )

    def add_serving(self, connection: Connection) -> bool:
        """Counts the connection as one to be served by `serve`, unless the session has ended or has enough."""
        with self.core.lock:
            if self.core.lost or self._complete or len(self._serving) >= self.core.max_threads:
                return False
            connection.on_return = self.core.dec_strong
            connection.session = self
            self._connections.add(connection)
            self._serving.add(connection)
        return True

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

    def _release(self, connection: Connection) -> None:
        """Gives a borrowed connection back. Runs no user code: it may be called in the middle of anything."""
        core = self.core
        taken = True
        if (core.attention or core.owing) and not core.lost:
            taken = self._attend(connection)
        with core.lock:
            if not self._outgoing.put_back(connection):
                self._forget(connection)
                return
            told, self._told = self._told, True
        if not told:
            idle.reader.tell(self)
        if core.attention and taken:
            self._collect()

    def _give_back(self, connection: Connection, *, in_passing: bool = False) -> None:
        """`_release` after a call. `in_passing`, where no user code may run, another thread tells objects."""
        self._release(connection)
        table = self.core.table
        if table.released or table.ready:
            self._run_or_start(in_passing, self._tell_news)

    def _forget(self, connection: Connection) -> None:
        """With the lock held."""
        self._connections.discard(connection)
        _unwatched(connection).close()

    # Calls

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
            return self._ask(lent, handle, method, frame)
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

    def _ask(
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
                    given_back = plain_answer(piece)
                    if given_back is None:
                        connection.unread(piece)
                    else:
                        fixed = method.fixed_reply
                        values = None if fixed is None else fixed.values(piece)
                        if values is not None:
                            return values[0] if values else None
                        reader = ParcelReader(piece, _ANSWER_HEAD, self.core)
            except BaseException as error:
                failure = self._failed(error)
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
            self._settle_call(connection, handle, given_back)

    def _settle_call(
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
        self, handle: Handle, method: Method, args: tuple[Any, ...], kind: "type[_B]"
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
            failure = self._failed(error)
            if failure is error:
                raise
            raise failure from error

    def _failed(self, error: BaseException, *, in_passing: bool = False) -> BaseException:
        """What a call raises whose reply could not be read; the session ends unless it is the call's own failure."""
        if isinstance(error, StatusError):
            return error
        if isinstance(error, BROKEN) and not isinstance(error, TimeoutError):
            self._broken(error, in_passing=in_passing)
            return DeadObjectError(str(error))
        self.end(in_passing=in_passing)
        return error

    def _read_returns(self, connection: Connection) -> None:
        """Reads the references that have come back on a borrowed connection, without waiting.

        A call that has come early stays for the next sync call from here to serve, as it would have done.
        """
        try:
            for _ in range(_MAX_RETURNS_READ):
                frame = None if connection.has_early else connection.poll_frame()
                if frame is None:
                    return
                if frame[0] == wire.DEC_STRONG:
                    self.core.dec_strong(frame[1])
                elif frame[0] == wire.TRANSACT:
                    connection.keep(frame)
                else:
                    close_fds(frame[2] or ())
                    raise ProtocolError("REPLY to no call")
        except BROKEN as error:
            self._broken(error, in_passing=True)

    # Serving

    def serve(self, connection: Connection) -> None:
        """Serves a connection taken by `add_serving` until it or the session ends, then closes it. Never raises."""
        lone = False
        try:
            self._serve_frames(connection)
        except TooMuchData:
            lone = True
        except OverBudget as error:
            self.end()
            if self.core.account.may_report():
                note(f"a session ends: {error}")
        except GONE:
            pass
        except (ProtocolError, StatusError):
            self.end()
        except BaseException as error:  # noqa: BLE001 - the thread ends here
            self.end()
            if self.core.account.may_report():
                report(error)
        finally:
            self._lost(connection, alone=lone)

    def _serve_frames(self, connection: Connection) -> None:
        core, table = self.core, self.core.table
        owed_calls = late = 0
        while not core.ended:
            frame = None
            if core.lost:
                late += 1
                frame = connection.poll_frame() if late < _MAX_LATE else None
                if frame is None:
                    return
            elif core.owing or core.attention:
                if owed_calls < _MAX_OWED_CALLS and not core.attention:
                    frame = connection.poll_frame()
                if frame is None:
                    owed_calls = 0
                    self._attend_from(connection)
            if table.released or table.ready:
                self._tell_news()
            if frame is None and (core.owing or core.attention):  # the peer takes nothing now
                frame = connection.poll_frame()
                if frame is None:
                    connection.wait_either()
                    continue
            if frame is None and (piece := connection.receive()) is not None:
                if self._serve_plain(connection, piece):
                    owed_calls += 1
                    continue
                connection.unread(piece)
            command, body, fds = frame or connection.read_frame()
            if command == wire.TRANSACT:
                self._serve_call(connection, body, fds)
                owed_calls += 1
            elif command == wire.DEC_STRONG:
                core.dec_strong(body)
            else:
                close_fds(fds or ())
                raise ProtocolError("REPLY to no call")

    def _lost(self, connection: Connection, *, alone: bool) -> None:
        """A serving connection is over; the peer is gone, too, unless only the connection was at fault."""
        with self.core.lock:
            self._serving.discard(connection)
            self._complete = True
            alone = alone and bool(self._serving)
            self._forget(connection)
        if not alone:
            self.lose()

    def _serve_plain(self, connection: Connection, piece: bytes) -> bool:
        """Serves a sync call as `_serve_call` does, if that is all there is; False, with nothing done, if not."""
        core, context = self.core, running.context
        depth = context.depth
        call = plain_call(core, piece) if depth < wire.MAX_NESTED_CALLS else None
        if call is None:
            return False
        connections = context.connections
        outer_served, outer_connection = context.served, connections.get(self)
        answering = connection.answering
        context.depth = depth + 1
        context.served = connections[self] = connection
        connection.running += 1
        connection.answering = True
        try:
            if core.lost:
                self._end_if_served()
            answer = call.answer(core)
            del connections[self]
            if isinstance(answer, Frame):
                self._send_answer(connection, answer)
            else:
                connection.send(answer)
        finally:
            connection.answering = answering
            connection.running -= 1
            context.depth = depth
            context.served = outer_served
            if outer_connection is not None:
                connections[self] = outer_connection
        return True

    def _serve_call(
        self, connection: Connection, body: bytes | bytearray, fds: list[int] | None
    ) -> None:
        core = self.core
        call = core.receive(body, fds)
        if call is None:
            return
        context = running.context
        depth = context.depth
        if depth >= wire.MAX_NESTED_CALLS and call.refusal is None:
            text = f"{depth} calls are being served within one another already"
            call.refusal = StatusError(Status.FAILED_TRANSACTION, text)
        context.depth = depth + 1
        connection.running += 1
        outer_served = context.served
        outer_connection = context.connections.pop(self, None)
        context.served = connection
        answering = connection.answering
        connection.answering = not (call.oneway or core.lost)
        try:
            if call.oneway:
                self._run_oneway(call)
                return
            if core.lost and connection.answering:
                self._end_if_served()
            # Only now, while it waits for the reply, does the peer take calls on this connection.
            context.connections[self] = connection
            frame = core.finish(call.node, execute(core, call))
            del context.connections[self]
            self._send_answer(connection, frame)
        finally:
            connection.answering = answering
            connection.running -= 1
            context.depth = depth
            context.served = outer_served
            if outer_connection is not None:
                context.connections[self] = outer_connection

    def _send_answer(self, connection: Connection, frame: Frame) -> None:
        try:
            connection.send_frame(frame)
        finally:
            if frame.parcel is not None:
                frame.parcel.close_descriptors()

    def _run_oneway(self, first: Transaction) -> None:
        """Runs a oneway call and those that waited for it."""
        core = self.core
        call: Transaction | None = first
        while call is not None:
            result = execute(core, call)
            if isinstance(result, Parcel):
                result.discard()
                result.close_descriptors()
            call = core.next_oneway(call)

    # Housekeeping

    def _attend(self, connection: Connection) -> bool:
        """Sends what is to be given back; ends the session if nothing is left of it. Runs no user code.

        False if the peer did not take it at once: it stays due. The peer may be busy, or read nothing before its next
        call.
        """
        taken = True
        try:
            while (taken := connection.writable()) and (frames := self.core.returns()):
                connection.send(frames)
        except BROKEN as error:
            self._broken(error, in_passing=True)
            return True
        if self.core.drained():
            self.end(in_passing=True)
        return taken

    def _attend_from(self, serving: Connection) -> None:
        """Attends on a free outgoing connection, where the peer is sure to read, or else on the one being served."""
        core = self.core
        with core.lock:
            connection = self._outgoing.take_free()
        if connection is not None:
            self._release(_unwatched(connection))
        if core.attention or core.owing:
            self._attend(serving)

    def _collect(self) -> None:
        """Attends on a free connection. Whoever holds the lock, or the last free connection, will do it otherwise."""
        if not self.core.lock.acquire(blocking=False):
            return
        try:
            connection = self._outgoing.take_free() if not self.core.lost else None
        finally:
            self.core.lock.release()
        if connection is not None:
            self._release(_unwatched(connection))

    # Idle connections

    def watch_idle(self, watch: idle.IdleReader) -> bool:
        core = self.core
        with core.lock:
            due = core.attention or core.owing
            settled = True
            whole = []
            for connection in self._outgoing.free():
                if connection.fresh:
                    connection.fresh = settled = False
                elif connection.watched or connection.has_early:
                    continue
                elif connection.has_whole:  # which came along with a reply
                    connection.lent = True
                    whole.append(connection)
                else:
                    watch.watch(self, connection, also_to_write=due)
            self._told = not settled
        for connection in whole:
            self._read_lent(connection)
        return settled

    def read_idle(self, connection: Connection) -> None:
        with self.core.lock:
            if connection.lent or not connection.watched:
                return  # it has been lent, or closed, just now
            connection.lent = True
        self._read_lent(_unwatched(connection))

    def _read_lent(self, connection: Connection) -> None:
        self._read_returns(connection)
        self._release(connection)
        if self.core.has_news:
            self._run_or_start(True, self._tell_news)

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

    def end_if_unused(self) -> None:
        """Ends a session that knows no object."""
        with self.core.lock:
            unused = not self.core.table.nodes
        if unused:
            self.end()

    def lose(self, *, in_passing: bool = False) -> None:
        """The peer is gone: calls from here fail, and death recipients run. Ends the session once what had come of the
        peer's is served, which calls that wait for their reply do not hold up. Idempotent.

        `in_passing`, where no user code may run, the recipients run in a thread of their own.
        """
        handles = self.core.lose()
        if handles is not None:
            with self.core.lock:
                self._complete = True
                for connection in self._outgoing.close():
                    self._forget(connection)
                for connection in self._connections:
                    connection.shutdown_if_idle()
            if handles:
                self._run_or_start(in_passing, lambda: self.core.tell_dead(handles))
        self._end_if_served(in_passing=in_passing)

    def _end_if_served(self, *, in_passing: bool = False) -> None:
        with self.core.lock:
            served = all(connection.answering for connection in self._serving)
        if served:
            self.end(in_passing=in_passing)

    def _broken(self, error: Exception, *, in_passing: bool = False) -> None:
        """A connection failed with one of BROKEN."""
        if isinstance(error, ProtocolError):
            self.end(in_passing=in_passing)
        else:
            self.lose(in_passing=in_passing)

    def settle(self, seconds: float) -> None:
        """Waits until the peer has served the oneway calls made from here, but no longer than that.

        libbinder discards what it has received when it finds any connection of a session closed.
        """
        deadline = time.monotonic() + seconds
        while not self.core.lost and self.core.unanswered() and time.monotonic() < deadline:
            with self.core.lock:
                free = self._outgoing.free()
                watched = [_unwatched(connection) for connection in free]
                for connection in watched:
                    connection.lent = True
            for connection in watched:
                self._read_returns(connection)
                self._release(connection)
            wait_to_read(watched, _SETTLE_STEP)

    def end(self, *, in_passing: bool = False) -> None:
        """Ends the session: calls under way fail, sockets close, death recipients run. Idempotent.

        `in_passing`, where no user code may run, the recipients run in a thread of their own.
        """
        handles = self.core.lose() or []
        if not self.core.end():
            return
        with self.core.lock:
            for connection in self._outgoing.close():
                self._forget(connection)
            for connection in self._connections:
                connection.shutdown()
            left, self._entered = self._entered, False
        if left:
            idle.reader.leave()
        if handles or self.core.has_news:
            self._run_or_start(in_passing, lambda: self._tell_end(handles))
        self._on_end()
        self._on_end = self.core.on_garbage = _nothing
        self.core.forget_owner()

    # Telling

    def _tell_end(self, handles: list[Handle]) -> None:
        self.core.tell_dead(handles)
        self._tell_news()

    def _tell_news(self) -> None:
        """Tells objects that they were released, and has oneway calls run whose turn has come late."""
        self.core.tell_released()
        if self.core.table.ready:
            self._run_or_start(True, self._run_ready)

    def _run_ready(self) -> None:
        with self.core.lock:
            running.context.served = next(iter(self._serving), None)
        while (call := self.core.take_ready()) is not None:
            self._run_oneway(call)

    def _run_or_start(self, in_passing: bool, function: Callable[[], None]) -> None:
        if in_passing:
            threading.Thread(target=function, name="binder-tell").start()
        else:
            function()

    def __del__(self) -> None:
        if self._entered:
            idle.reader.leave()


class BegunCall:
    """A call that was sent, and whose reply is taken as it comes: `advance` when there is something to read.

    Nothing waits here but `finish`, and no user code runs but that of values.
    """

    __slots__ = (
        "_endpoint",
        "_handle",
        "_method",
        "_unsent",
        "connection",
        "error",
        "unfinished",
        "value",
    )

    def __init__(
        self, endpoint: Endpoint, connection: Connection, handle: Handle, method: Method
    ) -> None:
        self._endpoint = endpoint
        self.connection: Connection | None = connection
        """What is read; None when the call is over."""
        self._handle = handle
        self._method = method
        self._unsent: bytes | bytearray | memoryview = b""
        self.value: Any = None
        self.error: BaseException | None = None
        self.unfinished = False
        """Whether the rest may have to wait, and is for a thread that calls `finish`."""

    def send(self, frame: bytes | bytearray) -> None:
        assert self.connection is not None
        try:
            self._unsent = self.connection.send_now(frame)
            self.unfinished = bool(self._unsent)
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            self._fail(error)

    def advance(self) -> None:
        """Takes what has come."""
        connection, method = self.connection, self._method
        assert connection is not None
        given_back = None
        try:
            piece = connection.receive_now()
            if piece == b"":
                return
            given_back = None if piece is None else plain_answer(piece)
            if piece is None or given_back is None:
                if piece is not None:
                    connection.unread(piece)
                reader = self._read_frames(connection)
                if reader is None:
                    return
            else:
                fixed = method.fixed_reply
                values = None if fixed is None else fixed.values(piece)
                if values is not None:
                    self.value = values[0] if values else None
                    self._settle(given_back)
                    return
                reader = ParcelReader(piece, _ANSWER_HEAD, self._endpoint.core)
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            self._fail(error)
            return
        self._read_result(reader, given_back)

    def _read_frames(self, connection: Connection) -> ParcelReader | None:
        """The reply, if it has come and nothing else is to be done before."""
        core = self._endpoint.core
        while (frame := connection.poll_frame()) is not None:
            command, body, fds = frame
            if command == wire.REPLY:
                return core.answer(body, fds)
            if command == wire.TRANSACT:
                connection.keep(frame)
                self.unfinished = True
                return None
            core.dec_strong(body)
        return None

    def _read_result(self, reader: ParcelReader, given_back: tuple[int, int] | None) -> None:
        try:
            self.value = self._method.read_result(reader)
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            reader.close_taken()
            self._note_error(error)
        reader.close()
        self._settle(given_back)

    def _fail(self, error: BaseException) -> None:
        failure = self._endpoint._failed(error, in_passing=True)
        if failure is not error:
            failure.__cause__ = error
        self._note_error(failure)
        self._settle(None)

    def _note_error(self, error: BaseException) -> None:
        if isinstance(error, StatusError):
            error.add_method(self._method.name)
        self.error = error

    def _settle(self, given_back: tuple[int, int] | None) -> None:
        connection, self.connection = self.connection, None
        assert connection is not None
        self._endpoint._settle_call(connection, self._handle, given_back, in_passing=True)

    def finish(self) -> Any:
        """What is left of a call that is `unfinished`. Returns and raises what a call does."""
        connection, self.connection = self.connection, None
        assert connection is not None
        try:
            return self._endpoint._ask(connection, self._handle, self._method, self._unsent)
        except StatusError as error:
            error.add_method(self._method.name)
            raise

    def abandon(self) -> None:
        """Has a thread bring the call to its end, since nobody awaits it any more."""
        connection, self.connection = self.connection, None
        endpoint, handle, method, unsent = self._endpoint, self._handle, self._method, self._unsent
        if connection is None:
            return

        def finish() -> None:
            with suppress(Exception):
                endpoint._ask(connection, handle, method, unsent)

        try:
            threading.Thread(target=finish, name="binder-rest", daemon=True).start()
        except RuntimeError:  # no more threads
            endpoint.end(in_passing=True)

    def __del__(self) -> None:
        self.abandon()


def plain_answer(piece: bytes) -> tuple[int, int] | None:
    """What is given back before the reply that is all the rest of the bytes, without an object table; else None."""
    if len(piece) < _ANSWER_HEAD:
        return None
    command, body, address, amount, second, size, status, parcel = _unpack_answer(piece)
    if command != wire.DEC_STRONG or second != wire.REPLY or status or not amount:
        return None
    whole = body == wire.DEC_STRONG_SIZE and size == wire.REPLY_BODY.size + parcel
    return (address, amount) if whole and len(piece) == _ANSWER_HEAD + parcel else None


def _unwatched(connection: Connection) -> Connection:
    """The connection, which a call uses from now on."""
    if connection.watched:
        idle.reader.forget(connection)
    return connection
