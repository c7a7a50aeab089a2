"""One end of a session with its sockets: its connections, what is given back on them, and how it ends.

Connections are of two kinds. On *outgoing* ones this end originates calls; each is lent to one call at a time.
*Serving* ones carry the peer's calls; each has a thread of its own.
"""

import _thread
import sys
import threading
import time
from collections.abc import Callable

from . import idle, wire
from .connection import Connection, wait_to_read
from .errors import DeadObjectError, ProtocolError, StatusError
from .fd import close_fds
from .objects import Handle
from .outgoing import Outgoing
from .session import SessionCore

GONE = (OSError, EOFError)
"""What a connection raises when the peer is not there any more."""
BROKEN = (*GONE, ProtocolError)
"""What ends a session when a connection raises it."""

_MAX_RETURNS_READ = 1024
"""Frames read in one go from a connection that no call uses."""
_SETTLE_STEP = 0.02
"""Seconds for which `settle` waits in one go."""


def _nothing() -> None:
    pass


class SessionEnd:
    """Owns the connections of one session end. Closed by `end`, by the peer, or with its last object.

    When the peer goes, the calls made here fail at once, but what it had sent by then is still served.

    What finalizers call does nothing once the interpreter ends: threads that hold locks do not run on, and none begins.
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
        unwatched(connection).close()

    # Giving back

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
            self._release(unwatched(connection))
        if core.attention or core.owing:
            self._attend(serving)

    def _collect(self) -> None:
        """Attends on a free connection. Whoever holds the lock, or the last free connection, will do it otherwise."""
        if sys.is_finalizing() or not self.core.lock.acquire(blocking=False):
            return
        try:
            connection = self._outgoing.take_free() if not self.core.lost else None
        finally:
            self.core.lock.release()
        if connection is not None:
            self._release(unwatched(connection))

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
        self._read_lent(unwatched(connection))

    def _read_lent(self, connection: Connection) -> None:
        self._read_returns(connection)
        self._release(connection)
        if self.core.has_news:
            self._run_or_start(True, self._tell_news)

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

    def settle(self, seconds: float) -> None:
        """Waits until the peer has served the oneway calls made from here, but no longer than that.

        libbinder discards what it has received when it finds any connection of a session closed.
        """
        deadline = time.monotonic() + seconds
        while not self.core.lost and self.core.unanswered() and time.monotonic() < deadline:
            with self.core.lock:
                free = self._outgoing.free()
                watched = [unwatched(connection) for connection in free]
                for connection in watched:
                    connection.lent = True
            for connection in watched:
                self._read_returns(connection)
                self._release(connection)
            wait_to_read(watched, _SETTLE_STEP)

    # Ending

    def end_if_unused(self) -> None:
        """Ends a session that knows no object, now or soon.

        It may be called in the middle of anything, where another call of this end holds the lock, in this very thread.
        """
        if not self.core.lock.acquire(blocking=False):
            # threading.Thread has a lock of its own, which may be held here as well
            _thread.start_new_thread(self._wait_and_end_if_unused, ())
            return
        self.core.lock.release()
        self._wait_and_end_if_unused()

    def _wait_and_end_if_unused(self) -> None:
        with self.core.lock:
            unused = not self.core.table.nodes
        if unused:
            self.end(in_passing=True)

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

    def failed(self, error: BaseException, *, in_passing: bool = False) -> BaseException:
        """What a call raises whose reply could not be read; the session ends unless it is the call's own failure."""
        if isinstance(error, StatusError):
            return error
        if isinstance(error, BROKEN) and not isinstance(error, TimeoutError):
            self._broken(error, in_passing=in_passing)
            return DeadObjectError(str(error))
        self.end(in_passing=in_passing)
        return error

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
        """Runs the oneway calls whose turn has come late."""
        raise NotImplementedError

    def _run_or_start(self, in_passing: bool, function: Callable[[], None]) -> None:
        if in_passing:
            threading.Thread(target=function, name="binder-tell").start()
        else:
            function()

    def __del__(self) -> None:
        if self._entered and not sys.is_finalizing():
            idle.reader.leave()


def unwatched(connection: Connection) -> Connection:
    """The connection, which a call uses from now on."""
    if connection.watched:
        idle.reader.forget(connection)
    return connection
