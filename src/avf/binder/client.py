"""The calling side: `connect` and the Session it returns."""

import socket
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from . import wire
from .budget import Budget, nobody
from .connection import Connection
from .endpoint import Endpoint
from .errors import DeadObjectError, ProtocolError, Status, StatusError
from .handshake import INIT, SESSION_ID_SIZE, ConnectionHeader, check_init, check_response
from .objects import BinderClass, IBinder, binder_class, cast
from .parcel import ParcelReader, refused
from .predefined import is_alive, remote_descriptor
from .services import IServices
from .session import SessionCore
from .transport import Connector, check_connector
from .wanted import check_count, check_seconds, check_type
from .wire import FdMode

_I = TypeVar("_I", bound=IBinder)
_T = TypeVar("_T")

_SETTLE = 1.0
"""Seconds for which oneway calls are waited for when a session is closed."""


def connect(
    connector: Connector,
    *,
    fd_mode: FdMode = FdMode.NONE,
    incoming_threads: int = 0,
    max_outgoing: int = 10,
    max_version: int = wire.DEFAULT_VERSION,
    timeout: float | None = None,
    frame_timeout: float | None = None,
) -> "Session":
    """Opens a session with the server that `connector` reaches.

    `incoming_threads` connections (each with a thread) take calls that the server makes on its own, and notice its
    death; as many connections as the server has threads, at most `max_outgoing`, carry calls to it. `timeout` seconds
    bound the set-up of the session; `frame_timeout` seconds, if given, how long a frame may take to come once it has
    begun, or to be taken by the server. What the server may make this process keep is bounded as a party's of a
    `Budget` is. Either all of that succeeds or nothing is left behind. Raises the connector's OSError, TimeoutError,
    ProtocolError, or StatusError (DeadObjectError if the server hangs up, as it does on an fd mode it does not take).
    """
    check_connector(connector)
    check_type("fd_mode", fd_mode, FdMode)
    check_count("incoming_threads", incoming_threads, 0)
    check_count("max_outgoing", max_outgoing, 1)
    check_type("max_version", max_version, int)
    check_seconds("timeout", timeout)
    check_seconds("frame_timeout", frame_timeout)
    if not 0 <= max_version <= wire.MAX_VERSION:
        raise StatusError(Status.BAD_VALUE, f"protocol version {max_version}")
    deadline = None if timeout is None else time.monotonic() + timeout
    opener = _Opener(connector, fd_mode, max_version, deadline)
    first = opener.open(max_version, session_id=b"", incoming=False)
    try:
        version = _new_session(first, max_version)
    except BaseException:
        first.close()
        raise
    core = SessionCore(
        server=False,
        version=version,
        fd_mode=fd_mode,
        max_threads=max(1, incoming_threads),
        account=first.account,
    )
    endpoint = Endpoint(core, frame_timeout=frame_timeout)
    endpoint.add_outgoing(first)
    try:
        first.set_deadline(deadline)
        threads = opener.complete(endpoint, first, incoming_threads, max_outgoing)
    except BaseException:
        endpoint.end()
        raise
    return Session(endpoint, threads)


def _new_session(first: Connection, max_version: int) -> int:
    try:
        return check_response(first.read_exactly(8), max_version)
    except EOFError as error:
        raise DeadObjectError(f"the server refused the session: {error}") from error


class _Opener:
    """Opens the connections of one session within a deadline."""

    def __init__(
        self, connector: Connector, fd_mode: FdMode, version: int, deadline: float | None
    ) -> None:
        self.connector = connector
        self.fd_mode = fd_mode
        self.version = version
        self.deadline = deadline
        self.budget = Budget(privileged=nobody)

    def open(self, version: int, *, session_id: bytes, incoming: bool) -> Connection:
        """A connection that has said what it is for."""
        sock = self.connector()
        if self.fd_mode != FdMode.NONE and not isinstance(sock, socket.socket):
            sock.close()
            raise ValueError("no file descriptors travel over TLS: fd_mode must be FdMode.NONE")
        try:
            connection = Connection(sock, self.budget.admit("server"))
        except BaseException:
            sock.close()
            raise
        try:
            connection.set_deadline(self.deadline)
            header = ConnectionHeader(
                version,
                incoming=incoming,
                fd_mode=self.fd_mode,
                new_session=not session_id,
            )
            hello = header.pack() + session_id
            sock.sendall(hello if incoming else hello + INIT)
            return connection
        except BaseException:
            connection.close()
            raise

    def complete(
        self, endpoint: Endpoint, first: Connection, incoming_threads: int, max_outgoing: int
    ) -> list[threading.Thread]:
        """Opens the session's other connections; the threads of the incoming ones, running.

        A session of one connection needs to know neither the server's threads nor its own id: that saves two calls.
        """
        core = endpoint.core
        if max_outgoing == 1 and not incoming_threads:
            first.set_deadline(None)
            return []
        server_threads = _special(endpoint, wire.SPECIAL_GET_MAX_THREADS, ParcelReader.read_int)
        if server_threads <= 0:
            raise ProtocolError(f"the server has {server_threads} threads")
        core.session_id = _special(endpoint, wire.SPECIAL_GET_SESSION_ID, _read_session_id)
        for _ in range(min(server_threads, max_outgoing) - 1):
            connection = self.open(core.version, session_id=core.session_id, incoming=False)
            if not endpoint.add_outgoing(connection):
                connection.close()
        incoming: list[Connection] = []
        try:
            while len(incoming) < incoming_threads:
                incoming.append(self._incoming(endpoint))
            first.set_deadline(None)
            threads = []
            while incoming:
                threads.append(_serve_in_thread(endpoint, incoming.pop(0)))
            return threads
        except BaseException:
            for connection in incoming:
                connection.close()
            raise

    def _incoming(self, endpoint: Endpoint) -> Connection:
        core = endpoint.core
        connection = self.open(core.version, session_id=core.session_id, incoming=True)
        try:
            check_init(connection.read_exactly(8))
        except EOFError as error:
            connection.close()
            raise DeadObjectError("the server refused an incoming connection") from error
        except BaseException:
            connection.close()
            raise
        endpoint.start_frames(connection)
        return connection


def _read_session_id(reader: ParcelReader) -> bytes:
    session_id = reader.read_bytes()
    if session_id is None or len(session_id) != SESSION_ID_SIZE:
        raise StatusError(Status.BAD_VALUE, f"session id {session_id!r}")
    return session_id


def _special(endpoint: Endpoint, code: int, read: Callable[[ParcelReader], _T]) -> _T:
    reader = endpoint.transact(None, code, endpoint.parcel())
    try:
        return read(reader)
    except Exception as error:
        raise refused(error, f"special transaction {code}") from error
    finally:
        reader.close()


def _serve_in_thread(endpoint: Endpoint, connection: Connection) -> threading.Thread:
    """Raises DeadObjectError if the session has ended meanwhile; the connection is taken over either way."""
    if not endpoint.add_serving(connection):
        connection.close()
        raise DeadObjectError("the session has ended")
    thread = threading.Thread(
        target=endpoint.serve, args=(connection,), name="binder-incoming", daemon=True
    )
    thread.start()
    return thread


class Session:
    """A client's session.

    It lasts until it is closed, or the server ends it, or this object and the last proxy have gone.
    """

    def __init__(self, endpoint: Endpoint, threads: list[threading.Thread]) -> None:
        self._endpoint = endpoint
        self._threads = threads
        self._root: IBinder | None = None
        self._root_descriptor: str | None = None

    @property
    def version(self) -> int:
        """The protocol version in use."""
        return self._endpoint.core.version

    @property
    def closed(self) -> bool:
        """Whether the session is known to have ended, for whatever reason."""
        return self._endpoint.ended

    @property
    def endpoint(self) -> Endpoint:
        """What runs the session, below the calls."""
        return self._endpoint

    def threads(self) -> list[threading.Thread]:
        """Those of the incoming connections."""
        return list(self._threads)

    def get_root(self, interface: BinderClass[_I]) -> _I:
        """The server's root object.

        Raises StatusError UNEXPECTED_NULL if it has none for us, BAD_TYPE if it says that it is of another interface.
        """
        if self._root is None or not is_alive(self._root):
            root = _special(self._endpoint, wire.SPECIAL_GET_ROOT, ParcelReader.read_binder)
            if root is None:
                raise StatusError(Status.UNEXPECTED_NULL, "the server has no root object")
            self._root = root
            self._root_descriptor = None
        self._check_root(binder_class(interface), self._root)
        return interface_cast(interface, self._root)

    def get_service(self, name: str, interface: BinderClass[_I]) -> _I:
        """The object that a server of several serves by this name.

        Raises StatusError NAME_NOT_FOUND if it serves none for us, BAD_TYPE if the object, or the root of a server that
        serves no objects by name, says that it is of another interface.
        """
        found = self.get_root(IServices).find(name)
        if found is None:
            raise StatusError(Status.NAME_NOT_FOUND, f"the server serves no {name!r}")
        _check_descriptor(
            f"the service {name!r}", binder_class(interface), _asked_descriptor(found)
        )
        return interface_cast(interface, found)

    def services(self) -> list[str]:
        """The names at a server of several objects."""
        return self.get_root(IServices).names()

    def _check_root(self, interface: type[IBinder], root: IBinder) -> None:
        """Raises BAD_TYPE if the root says that it is of another interface."""
        if interface._contract is None:
            return
        if self._root_descriptor is None:
            self._root_descriptor = _asked_descriptor(root)
        _check_descriptor("the server's root", interface, self._root_descriptor)

    def close(self) -> None:
        """Ends the session and waits for its threads, unless called from one. Idempotent.

        Oneway calls that the server has not served yet are waited for, for a second at most: a server that is built on
        libbinder discards them otherwise.
        """
        self._endpoint.settle(_SETTLE)
        self._endpoint.end()
        if threading.current_thread() not in self._threads:
            for thread in self._threads:
                thread.join()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._root = None
        if not sys.is_finalizing():
            self._endpoint.end_if_unused()


def _asked_descriptor(root: IBinder) -> str:
    """Empty if the object does not say."""
    try:
        return remote_descriptor(root)
    except DeadObjectError:
        raise
    except StatusError:
        return ""


def _check_descriptor(what: str, interface: type[IBinder], descriptor: str) -> None:
    contract = interface._contract
    if contract is not None and descriptor not in ("", contract.descriptor):
        raise StatusError(Status.BAD_TYPE, f"{what} is {descriptor}, not {contract.descriptor}")


def interface_cast(interface: BinderClass[_I], binder: IBinder) -> _I:
    """`binder` as an `interface`: the proxy with its methods, or the local object itself.

    Raises StatusError BAD_TYPE for a local object of another class. What a remote object really is shows when it is
    called.
    """
    return cast(interface, binder)
