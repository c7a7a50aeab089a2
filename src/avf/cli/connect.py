"""`vm connect` and `vm forward`: to vsock ports of guests, by hand and from other programs."""

import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

import click

from avf.aidl.virtualizationservice import VirtualMachineState
from avf.binder import BinderError, DeadObjectError, RemoteException
from avf.cli.addresses import ADDRESS, Address, dialler, listen
from avf.cli.control import controlled
from avf.cli.names import CID
from avf.cli.sizes import WholeNumber
from avf.cli.splice import Way, splice
from avf.cli.text import CliError
from avf.client.control import ControlledVm
from avf.printable import printable
from avf.vsock import expect_reset, guest_address

MAX_CONNECTIONS = 64
"""Connections that one `vm forward` serves at a time; who comes then waits."""
_LOOK_SECONDS = 1.0
"""How often it is looked whether the VM is still there."""

_CUT = struct.pack("@ii", 1, 0)
"""struct linger: closing TCP tells the other end that it was cut off."""

VSOCK_PORT = WholeNumber(1024, (1 << 32) - 2)


@click.command()
@click.argument("cid", type=CID, metavar="VM")
@click.argument("port", type=VSOCK_PORT)
def connect(cid: int, port: int) -> int:
    """Connect to vsock PORT of a guest, as nc does to a TCP port.

    Standard input is sent to the guest, and so is its end. What the guest sends is written to standard output, until
    the guest closes the connection. The exit status is 1 if the connection was cut off.

    \b
    Example:
      echo hello | vm connect 2048 5678
    """
    with controlled(cid) as vm, vm.connect_vsock(port) as stream:
        stream.setblocking(False)
        back = Way(stream.fileno(), 1, lambda: None)
        ways = [back]
        if sys.stdin is not None:
            there = Way(sys.stdin.fileno(), stream.fileno(), lambda: _end(stream))
            ways.append(there)
        else:
            _end(stream)
        try:
            splice(ways, last=back)
        except ConnectionError as error:
            raise CliError("the connection to the guest was cut off") from error
    return 0


@click.command()
@click.argument("cid", type=CID, metavar="VM")
@click.argument("source", metavar="FROM", type=ADDRESS)
@click.argument("target", metavar="TO", type=ADDRESS)
def forward(cid: int, source: Address, target: Address) -> int:
    """Take connections at FROM and pass them on to TO, until the VM ends or you type Ctrl-C.

    One of them is a vsock port. As TO, it is a port of the guest. As FROM, it is a port of the host that this guest
    connects to. The other one is tcp:PORT, tcp:HOST:PORT or unix:PATH of the host. Without HOST, a TCP port is open on
    127.0.0.1, to every user of this host. With port 0, any free port is taken. A unix socket is open to you alone.

    \b
    Examples:
      vm forward 2048 tcp:8080 vsock:5678
      vm forward 2048 unix:guest.sock vsock:5678
      vm forward 2048 vsock:7000 tcp:5432
    """
    if (source.kind == "vsock") == (target.kind == "vsock"):
        raise click.UsageError("One of FROM and TO, and not both, is a vsock port.")
    with controlled(cid) as vm, ExitStack() as stack:
        listeners, source = listen(source, stack)
        click.echo(f"forwarding {printable(str(source))} to {printable(str(target))}", err=True)
        dial = (
            (lambda: vm.connect_vsock(target.port)) if target.kind == "vsock" else dialler(target)
        )
        accepts = (
            (lambda sock: _is_of(sock, cid)) if source.kind == "vsock" else (lambda sock: True)
        )
        try:
            Forwarding(listeners, dial, accepts).run(lambda: _is_there(vm))
        except DeadObjectError:
            pass
    click.echo("the VM has ended", err=True)
    return 0


class Forwarding:
    """Connections that arrive at listeners and are passed on, each by a thread of its own."""

    def __init__(
        self,
        listeners: list[socket.socket],
        dial: Callable[[], socket.socket],
        accepts: Callable[[socket.socket], bool],
    ) -> None:
        self._listeners = listeners
        self._dial = dial
        self._accepts = accepts
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def run(self, goes_on: Callable[[], bool]) -> None:
        """While `goes_on`, which is asked now and then."""
        import selectors

        with selectors.DefaultSelector() as selector:
            for listener in self._listeners:
                listener.setblocking(False)
                selector.register(listener, selectors.EVENT_READ)
            while goes_on():
                for key, _ in selector.select(_LOOK_SECONDS):
                    if self._places.acquire(timeout=_LOOK_SECONDS):
                        self._accept(key.fileobj)  # type: ignore[arg-type]

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # it has gone again
            self._places.release()
            return
        client.setblocking(True)
        threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                if self._accepts(client):
                    self._pass_on(client)
        except (OSError, BinderError) as error:
            text = error.message if isinstance(error, RemoteException) else str(error)
            click.echo(f"a connection failed: {printable(text)}", err=True)
        finally:
            self._places.release()

    def _pass_on(self, client: socket.socket) -> None:
        with self._dial() as target:
            client.setblocking(False)
            target.setblocking(False)
            ways = [
                Way(client.fileno(), target.fileno(), lambda: _end(target)),
                Way(target.fileno(), client.fileno(), lambda: _end(client)),
            ]
            try:
                splice(ways)
            except ConnectionError:
                for sock in (client, target):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CUT)


def _is_there(vm: ControlledVm) -> bool:
    return vm.details().state != VirtualMachineState.DEAD


def _is_of(sock: socket.socket, cid: int) -> bool:
    """Whether it is that guest who connected. Its end is to be told from a cut."""
    address = guest_address(sock)
    if address is None or address[0] != cid:
        return False
    with suppress(OSError):  # it has ended already
        expect_reset(sock)
    return True


def _end(sock: socket.socket) -> None:
    with suppress(OSError):  # the other end has gone
        sock.shutdown(socket.SHUT_WR)
