"""How a session end serves its peer's calls: a thread for each connection that carries them."""

from . import wire
from .budget import OverBudget
from .connection import Connection
from .dispatch import execute, plain_call
from .errors import ProtocolError, Status, StatusError, note, report
from .fd import close_fds
from .incoming import TooMuchData
from .parcel import Parcel
from .peer import running
from .session import Frame
from .session_end import GONE, SessionEnd
from .transaction import Transaction

_MAX_OWED_CALLS = 64
"""Oneway calls served before their references are returned, however many more are waiting."""
_MAX_LATE = 10_000
"""Frames read from a connection after the peer has gone."""


class ServingEnd(SessionEnd):
    """A session end that serves calls."""

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

    def _run_ready(self) -> None:
        with self.core.lock:
            running.context.served = next(iter(self._serving), None)
        while (call := self.core.take_ready()) is not None:
            self._run_oneway(call)
