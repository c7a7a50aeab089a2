"""Calls that are awaited elsewhere than in a thread."""

import sys
import threading
from contextlib import suppress
from typing import Any

from . import wire
from .connection import Connection
from .endpoint import Endpoint
from .errors import StatusError
from .methods import Method
from .objects import Handle
from .parcel import ParcelReader
from .wire import plain_answer

_ANSWER_HEAD = wire.ANSWER_FRAME.size


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
        self._handle: Handle | None = handle
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
        failure = self._endpoint.failed(error, in_passing=True)
        if failure is not error:
            failure.__cause__ = error
        self._note_error(failure)
        self._settle(None)

    def _note_error(self, error: BaseException) -> None:
        if isinstance(error, StatusError):
            error.add_method(self._method.name)
        self.error = error

    def _settle(self, given_back: tuple[int, int] | None) -> None:
        connection, handle = self._let_go()
        assert connection is not None
        assert handle is not None
        self._endpoint.settle_call(connection, handle, given_back, in_passing=True)

    def _let_go(self) -> tuple[Connection | None, Handle | None]:
        """What the call uses: it is for somebody else from now on."""
        used = self.connection, self._handle
        self.connection = self._handle = None
        return used

    def finish(self) -> Any:
        """What is left of a call that is `unfinished`. Returns and raises what a call does."""
        connection, handle = self._let_go()
        assert connection is not None
        assert handle is not None
        try:
            return self._endpoint.ask(connection, handle, self._method, self._unsent)
        except StatusError as error:
            error.add_method(self._method.name)
            raise

    def abandon(self) -> None:
        """Has a thread bring the call to its end, since nobody awaits it any more."""
        connection, handle = self._let_go()
        endpoint, method, unsent = self._endpoint, self._method, self._unsent
        if connection is None or handle is None:
            return

        def finish() -> None:
            with suppress(Exception):
                endpoint.ask(connection, handle, method, unsent)

        try:
            threading.Thread(target=finish, name="binder-rest", daemon=True).start()
        except RuntimeError:  # no more threads
            endpoint.end(in_passing=True)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.abandon()
