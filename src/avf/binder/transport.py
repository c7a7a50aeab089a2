"""Addresses: where a server listens, and how a client reaches it.

`Server.serve` and `Server.start` take an address, and so does `connect`. A connector is anything that returns a
connected socket when it is called, once per connection; every address is one.
"""

import array
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Self, overload

from .listener import Listener
from .tls import TlsSocket
from .unix_file import listen_at
from .wanted import check_number, check_type

if TYPE_CHECKING:
    import ssl  # slow to import, and hardly ever needed

Connector = Callable[[], socket.socket | TlsSocket]
"""Makes one connection to a server each time that it is called."""

BOOTSTRAP_MESSAGE = bytes(4)
_SUN_PATH_MAX = 107
"""Bytes of a path that a unix socket's address takes."""
_TIMEOUT = 30.0
"""Seconds for a guest to accept a connection, and for a TLS handshake."""
_BACKLOG = 128
"""Connections that may wait to be accepted."""


def check_connector(connector: object) -> None:
    """TypeError unless it is an address, or a function that makes connections."""
    if callable(connector):
        return
    if isinstance(connector, str | os.PathLike):
        raise TypeError(
            f"an address wanted, not {type(connector).__name__}: unix({os.fspath(connector)!r}) makes one of a path"
        )
    raise TypeError(f"an address wanted, not {type(connector).__name__}")


class Address(ABC):
    """Where a server is: a value. Called, it returns a socket that is connected there."""

    @abstractmethod
    def __call__(self) -> socket.socket | TlsSocket: ...

    def listen(self) -> tuple[Listener, Self]:
        """A listening socket, and the address to reach it at, where the system has chosen a port."""
        raise TypeError(f"{self} is an address for clients only")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({values})"


class UnixAddress(Address):
    """A unix socket in the file system; made by `unix`."""

    def __init__(self, path: str, mode: int) -> None:
        self.path = path
        self.mode = mode

    def __call__(self) -> socket.socket:
        return _connected(socket.AF_UNIX, self.path)

    def listen(self) -> tuple[Listener, Self]:
        sock, file = listen_at(self.path, self.mode, _BACKLOG)
        return Listener(sock, file=file), self


def unix(path: str | os.PathLike[str], *, mode: int = 0o600) -> UnixAddress:
    """A unix socket in the file system, for a client at a path of any length.

    A server creates the file with the rights `mode`, in place of one that a dead server has left, and removes it when
    it stops. It raises FileExistsError if the file is no socket, OSError (EADDRINUSE) if a server listens there.
    """
    check_type("path", path, str, os.PathLike)
    check_type("mode", mode, int)
    if not 0 <= mode <= 0o777:
        raise ValueError(f"mode must be from 0 to 0o777, not {mode:#o}")
    return UnixAddress(os.fspath(path), mode)


class AbstractAddress(Address):
    """A unix socket in the abstract namespace; made by `unix_abstract`."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    def __call__(self) -> socket.socket:
        return _connected(socket.AF_UNIX, b"\0" + self.name)

    def listen(self) -> tuple[Listener, Self]:
        return Listener(_listening(socket.AF_UNIX, b"\0" + self.name)), self


def unix_abstract(name: str | bytes) -> AbstractAddress:
    """A unix socket in the abstract namespace; `name` without the leading NUL.

    Every process of the network namespace can connect to it.
    """
    check_type("name", name, str, bytes)
    return AbstractAddress(name.encode() if isinstance(name, str) else name)


class InetAddress(Address):
    """TCP, perhaps with TLS over it; made by `inet`."""

    def __init__(self, host: str, port: int, tls: "ssl.SSLContext | None") -> None:
        self.host = host
        self.port = port
        self.tls = tls

    def __call__(self) -> socket.socket | TlsSocket:
        if self.tls is not None:
            _check_context(self.tls, server=False)
        sock = socket.create_connection((self.host, self.port))
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is None:
                return sock
            secure = TlsSocket(sock, self.tls, self.host)
            secure.settimeout(_TIMEOUT)
            secure.handshake()
            secure.settimeout(None)
            return secure
        except BaseException:
            sock.close()
            raise

    def listen(self) -> tuple[Listener, Self]:
        if self.tls is not None:
            _check_context(self.tls, server=True)
        found = socket.getaddrinfo(
            self.host or None, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        sock = socket.create_server(address, family=family, backlog=_BACKLOG)
        bound = type(self)(self.host, sock.getsockname()[1], self.tls)
        return Listener(sock, tls=self.tls), bound


def inet(host: str, port: int, *, tls: "ssl.SSLContext | None" = None) -> InetAddress:
    """TCP. A server that listens at port 0 gets a free one; `Server.start` returns the address with it.

    `tls` is a context of the standard library's `ssl`, of PROTOCOL_TLS_SERVER for servers and PROTOCOL_TLS_CLIENT for
    clients; a client's context checks the server's certificate against `host`. Without `tls`, whoever is on the way
    reads and changes everything.
    """
    check_type("host", host, str)
    check_number("port", port, 0, 0xFFFF)
    if tls is not None:
        import ssl

        check_type("tls", tls, ssl.SSLContext)
    return InetAddress(host, port, tls)


class VsockAddress(Address):
    """The kernel's AF_VSOCK; made by `vsock`."""

    def __init__(self, cid: int | None, port: int) -> None:
        self.cid = cid
        self.port = port

    def __call__(self) -> socket.socket:
        if self.cid is None:
            raise TypeError("vsock(port) is for servers; vsock(cid, port) is what clients reach")
        return _connected(socket.AF_VSOCK, (self.cid, self.port))

    def listen(self) -> tuple[Listener, Self]:
        cid = socket.VMADDR_CID_ANY if self.cid is None else self.cid
        sock = _listening(socket.AF_VSOCK, (cid, self.port))
        return Listener(sock), type(self)(self.cid, sock.getsockname()[1])


@overload
def vsock(port: int, /) -> VsockAddress: ...


@overload
def vsock(cid: int, port: int) -> VsockAddress: ...


def vsock(cid: int, port: int | None = None) -> VsockAddress:
    """The kernel's AF_VSOCK: `vsock(cid, port)`, or `vsock(port)` for a server that any CID may reach."""
    if port is None:
        check_number("port", cid, 0, 0xFFFFFFFF)
        return VsockAddress(None, cid)
    check_number("cid", cid, 0, 0xFFFFFFFF)
    check_number("port", port, 0, 0xFFFFFFFF)
    return VsockAddress(cid, port)


class HybridVsockAddress(Address):
    """A guest's vsock port behind a user-space device; made by `hybrid_vsock`."""

    def __init__(self, path: str, port: int) -> None:
        self.path = path
        self.port = port

    def __call__(self) -> socket.socket:
        sock = _connected(socket.AF_UNIX, self.path)
        try:
            deadline = time.monotonic() + _TIMEOUT
            sock.settimeout(_TIMEOUT)
            sock.sendall(b"CONNECT %d\n" % self.port)
            answer = _read_line(sock, 32, deadline)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        if not answer.startswith(b"OK "):
            sock.close()
            raise ConnectionRefusedError(f"{self.path}: nobody listens on vsock port {self.port}")
        return sock


def hybrid_vsock(path: str | os.PathLike[str], port: int) -> HybridVsockAddress:
    """A guest's vsock port behind the unix socket of a user-space device (Firecracker's CONNECT convention)."""
    check_type("path", path, str, os.PathLike)
    check_number("port", port, 0, 0xFFFFFFFF)
    return HybridVsockAddress(os.fspath(path), port)


class BootstrapAddress(Address):
    """A unix socket that carries connections; made by `bootstrap`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def __call__(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                self.hand_over(theirs)
        except BaseException:
            ours.close()
            raise
        return ours

    def hand_over(self, connection: socket.socket) -> None:
        """Has the server serve `connection`, which stays the caller's to close. Raises OSError."""
        control = array.array("i", [connection.fileno()])
        self.sock.sendmsg(
            [BOOTSTRAP_MESSAGE],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, control)],
            socket.MSG_NOSIGNAL,
        )


def bootstrap(sock: socket.socket) -> BootstrapAddress:
    """A connected unix socket, as of `socket.socketpair()`, over which the server takes one end of a new socket pair
    per connection.

    The socket stays the client's; a server takes its end over.
    """
    check_type("sock", sock, socket.socket)
    return BootstrapAddress(sock)


def _check_context(context: "ssl.SSLContext", *, server: bool) -> None:
    import ssl

    wanted = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
    if context.protocol != wanted:
        who = "a server" if server else "a client"
        raise ValueError(f"the TLS context of {who} is of ssl.{wanted.name}")


def _connected(family: int, address: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if isinstance(address, str) and len(os.fsencode(address)) > _SUN_PATH_MAX:
            from avf.unix_path import usable

            with usable(address) as short:
                sock.connect(short)
        else:
            sock.connect(address)  # type: ignore[arg-type]
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and isinstance(address, str):
            error.filename = address
        raise
    return sock


def _listening(family: int, address: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.bind(address)  # type: ignore[arg-type]
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _read_line(sock: socket.socket, limit: int, deadline: float) -> bytes:
    """Byte by byte: what follows the line is not ours to read. Empty if the peer closes first.

    Raises TimeoutError.
    """
    line = b""
    while not line.endswith(b"\n") and len(line) < limit:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the vsock device did not answer in time")
        sock.settimeout(left)
        byte = sock.recv(1)
        if not byte:
            return b""
        line += byte
    return line
