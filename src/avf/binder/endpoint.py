"""One end of a session with its sockets: a thread per connection over the session core.

Connections are of two kinds. On *outgoing* ones this end originates calls; each is lent to one call at a time.
*Serving* ones carry the peer's calls; each has a thread of its own. A sync call made while serving a sync call goes
out on the connection being served, where the peer is waiting.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from . import wire
from .budget import OverBudget
from .connection import Connection, TooMuchData
from .contract import Method
from .dispatch import Transaction, execute
from .errors import DeadObjectError, ProtocolError, Status, StatusError, note, report
from .fd import close_fds
from .objects import Handle
from .parcel import Parcel, ParcelReader
from .peer import context
from .session import SessionCore

BROKEN = (OSError, EOFError, ProtocolError)
"""What ends a session when a connection raises it."""

_MAX_OWED_CALLS = 64
"""Oneway calls served before their references are returned, however many more are waiting."""


def _nothing() -> None:
    pass


class Endpoint:
    """Makes and serves the calls of one session end. Closed by `end`, by the peer, or with its last object."""

    def __init__(
        self,
        core: SessionCore,
        on_end: Callable[[], None] = _nothing,
        *,
        frame_timeout: float | None = None,
    ) -> None:
        self.core = core
        self._frame_timeout = frame_timeout
        core.remote = self
        core.on_garbage = self._collect
        self._on_end = on_end
        self._changed = threading.Condition(core.lock)
        self._waiting = 0
        self._connections: set[Connection] = set()
        self._free: deque[Connection] = deque()
        self._outgoing = 0
        self._serving = 0
        self._complete = False
        """A serving connection was lost: no more are taken."""

    @property
    def ended(self) -> bool:
        return self.core.ended

    # Connections

    def add_outgoing(
        self, connection: Connection, *, limit: int = 1 << 30, greeting: bytes = b""
    ) -> bool:
        """Takes the connection over, unless the session has ended or has `limit` of them.

        The peer may count on it from the first byte of the greeting on, so it is counted before and lent after.
        """
        with self._changed:
            if self.core.ended or self._complete or self._outgoing >= limit:
                return False
            connection.on_return = self.core.dec_strong
            connection.session = self
            self._connections.add(connection)
            self._outgoing += 1
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
            max_body=self.core.max_body,
            frame_timeout=self._frame_timeout,
        )

    def add_serving(self, connection: Connection) -> bool:
        """Counts the connection as one to be served by `serve`, unless the session has ended or has enough."""
        with self._changed:
            if self.core.ended or self._complete or self._serving >= self.core.max_threads:
                return False
            connection.on_return = self.core.dec_strong
            connection.session = self
            self._connections.add(connection)
            self._serving += 1
        return True

    def _acquire(self) -> Connection:
        """Borrows an outgoing connection, waiting for one; in turn, so that oneway calls spread."""
        with self.core.lock:  # the condition's, and quicker
            if self._free and not self.core.ended:
                return self._free.popleft()
        with self._changed:
            while True:
                if self.core.ended:
                    raise DeadObjectError("the session has ended")
                if self._free:
                    return self._free.popleft()
                if not self._outgoing:
                    raise StatusError(
                        Status.WOULD_BLOCK, "the session has no connection for calls from here"
                    )
                self._waiting += 1
                try:
                    self._changed.wait()
                except BaseException:
                    self._changed.notify()  # this thread's turn may have come
                    raise
                finally:
                    self._waiting -= 1

    def _release(self, connection: Connection) -> None:
        """Gives a borrowed connection back. Runs no user code: it may be called in the middle of anything."""
        if self.core.attention and not self.core.ended:
            self._attend(connection)
        with self.core.lock:
            if self.core.ended:
                self._forget(connection)
                return
            self._free.append(connection)
            if self._waiting:
                self._changed.notify()
        if self.core.attention:
            self._collect()

    def _give_back(self, connection: Connection) -> None:
        """`_release` after a call."""
        self._release(connection)
        if self.core.table.released:
            self.core.tell_released()

    def _forget(self, connection: Connection) -> None:
        """With the lock held."""
        self._connections.discard(connection)
        connection.close()

    # Calls

    def parcel(self) -> Parcel:
        return self.core.request_parcel()

    def call(self, handle: Handle, method: Method, args: tuple[Any, ...]) -> Any:
        """An AIDL call through a proxy."""
        parcel = self.core.request_parcel()
        try:
            method.write_arguments(parcel, args)
        except BaseException:
            parcel.discard()
            raise
        if method.oneway:
            self._post(handle, method.code, parcel)
            return None
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
        nested = context.connections.get(self)
        if nested is not None:
            return nested, False  # type: ignore[return-value]
        try:
            return self._acquire(), True
        except BaseException:
            parcel.discard()
            raise

    def _post(self, handle: Handle, code: int, parcel: Parcel) -> None:
        try:
            connection = self._acquire()
        except BaseException:
            parcel.discard()
            raise
        try:
            self._send_request(connection, handle, code, parcel, oneway=True)
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
            self.end()
            raise DeadObjectError(str(error)) from error
        except BaseException:
            self.end()
            raise

    def _exchange(
        self, connection: Connection, handle: Handle | None, code: int, parcel: Parcel
    ) -> ParcelReader:
        self._send_request(connection, handle, code, parcel, oneway=False)
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
        except StatusError:
            raise
        except TimeoutError:
            self.end()
            raise
        except BROKEN as error:
            self.end()
            raise DeadObjectError(str(error)) from error
        except BaseException:
            self.end()
            raise

    # Serving

    def serve(self, connection: Connection) -> None:
        """Serves a connection taken by `add_serving` until it or the session ends, then closes it. Never raises."""
        core = self.core
        lone = False
        try:
            owed_calls = 0
            while not core.ended:
                frame = None
                if core.owing and owed_calls < _MAX_OWED_CALLS:
                    frame = connection.poll_frame()
                if core.attention or (core.owing and frame is None):
                    self._attend_from(connection)
                    owed_calls = 0
                if core.table.released:
                    core.tell_released()
                command, body, fds = frame or connection.read_frame()
                if command == wire.TRANSACT:
                    self._serve_call(connection, body, fds)
                    owed_calls += 1
                elif command == wire.DEC_STRONG:
                    core.dec_strong(body)
                else:
                    close_fds(fds or ())
                    raise ProtocolError("REPLY to no call")
        except TooMuchData:
            lone = True
        except OverBudget as error:
            if core.account.may_report():
                note(f"a session ends: {error}")
        except (*BROKEN, StatusError):
            pass
        except BaseException as error:  # noqa: BLE001 - the thread ends here
            if core.account.may_report():
                report(error)
        finally:
            self._lost(connection, alone=lone)

    def _lost(self, connection: Connection, *, alone: bool) -> None:
        """A serving connection is over; the session too, unless only the connection was at fault and others serve."""
        with self._changed:
            self._serving -= 1
            self._complete = True
            alone = alone and self._serving > 0
            self._forget(connection)
        if not alone:
            self.end()

    def _serve_call(
        self, connection: Connection, body: bytes | bytearray, fds: list[int] | None
    ) -> None:
        core = self.core
        call = core.receive(body, fds)
        if call is None:
            return
        depth = context.depth
        if depth >= wire.MAX_NESTED_CALLS and call.refusal is None:
            text = f"{depth} calls are being served within one another already"
            call.refusal = StatusError(Status.FAILED_TRANSACTION, text)
        context.depth = depth + 1
        outer_served = context.served
        outer_connection = context.connections.pop(self, None)
        context.served = connection
        try:
            if call.oneway:
                self._run_oneway(call)
                return
            # Only now, while it waits for the reply, does the peer take calls on this connection.
            context.connections[self] = connection
            frame = core.finish(call, execute(core, call))
            del context.connections[self]
        finally:
            context.depth = depth
            context.served = outer_served
            if outer_connection is not None:
                context.connections[self] = outer_connection
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

    def _attend(self, connection: Connection) -> None:
        """Sends what is to be given back; ends the session if nothing is left of it. Runs no user code."""
        try:
            frames = self.core.returns()
            if frames:
                connection.send(frames)
        except BROKEN:
            self.end(in_passing=True)
            return
        if self.core.drained():
            self.end(in_passing=True)

    def _attend_from(self, serving: Connection) -> None:
        """Attends on an outgoing connection, since nobody reads the far end of a serving one between calls.

        While all are lent out it is left to the next to come back.
        """
        with self._changed:
            connection = self._free.popleft() if self._free else None
            if connection is None and self._outgoing:
                self.core.attention = True
                return
        if connection is None:
            self._attend(serving)
        else:
            self._release(connection)

    def _collect(self) -> None:
        """Attends on a free connection. Whoever holds the lock, or the last free connection, will do it otherwise."""
        if not self.core.lock.acquire(blocking=False):
            return
        try:
            connection = self._free.popleft() if self._free and not self.core.ended else None
        finally:
            self.core.lock.release()
        if connection is not None:
            self._release(connection)

    def release(self, handle: Handle) -> None:
        self.core.release(handle)
        self._collect()

    def link_to_death(self, handle: Handle, recipient: Callable[[], None]) -> None:
        with self._changed:
            if self.core.ended or handle.closed:
                raise DeadObjectError("the session has ended")
            if not self._serving:
                raise StatusError(
                    Status.INVALID_OPERATION, "a session without incoming threads notices no death"
                )
            self.core.table.link(handle.node)
            handle.recipients.append(recipient)

    def unlink_to_death(self, handle: Handle, recipient: Callable[[], None]) -> bool:
        """Whether the recipient was linked."""
        with self._changed:
            if recipient not in handle.recipients:
                return False
            handle.recipients.remove(recipient)
            self.core.table.unlink(handle.node)
            return True

    def end_if_unused(self) -> None:
        """Ends a session that knows no object."""
        with self._changed:
            unused = not self.core.table.nodes
        if unused:
            self.end()

    def end(self, *, in_passing: bool = False) -> None:
        """Ends the session: calls under way fail, sockets close, death recipients run. Idempotent.

        `in_passing`, where no user code may run, the recipients run in a thread of their own.
        """
        handles = self.core.end()
        if handles is None:
            return
        with self._changed:
            while self._free:
                self._forget(self._free.popleft())
            for connection in self._connections:
                connection.shutdown()
            self._changed.notify_all()
        if not in_passing:
            self._tell(handles)
        elif handles or self.core.table.released:
            threading.Thread(target=self._tell, args=(handles,), name="binder-end").start()
        self._on_end()
        self._on_end = self.core.on_garbage = _nothing
        self.core.forget_owner()

    def _tell(self, handles: list[Handle]) -> None:
        self.core.tell_dead(handles)
        self.core.tell_released()
