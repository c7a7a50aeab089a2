"""`vm listen`: a host vsock port for guests to write to."""

import selectors
import socket
import sys
from contextlib import ExitStack, suppress

import click

from avf.cli.sizes import WholeNumber
from avf.cli.text import CliError
from avf.runtime import user_runtime_dir
from avf.vsock import expect_reset, guest_address, kernel_vhost_available, listen_host

MAX_CONNECTIONS = 64
_CHUNK = 64 << 10


@click.command(epilog="Example:  vm listen 5000 --once")
@click.argument("port", type=WholeNumber(1, (1 << 32) - 2))
@click.option("--once", is_flag=True, help="Leave when the first guest that connects has ended.")
def listen(port: int, once: bool) -> int:
    """Listen on vsock PORT of the host, and write to standard output what guests send.

    With --once the exit status is 1 if the guest was cut off before it had ended.
    """
    with ExitStack() as stack:
        listeners = listen_for_guests(port, stack)
        click.echo(f"listening on vsock port {port} of the host", err=True)
        return 0 if Listening(listeners, once).run() else 1


def listen_for_guests(port: int, stack: ExitStack) -> list[socket.socket]:
    """Listeners for the guests of this user on a vsock port of the host, open as long as `stack`. Raises CliError."""
    directory = user_runtime_dir() / "vsock"
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        listeners = [stack.enter_context(listen_host(port, directory, mode=0o600))]
        stack.callback((directory / str(port)).unlink, missing_ok=True)
        if kernel_vhost_available():
            kernel = stack.enter_context(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
            kernel.bind((socket.VMADDR_CID_ANY, port))
            kernel.listen()
            listeners.append(kernel)
    except OSError as error:
        raise CliError(f"cannot listen on vsock port {port}: {error.strerror}") from error
    return listeners


class Listening:
    """Guests' connections on some listeners, copied to standard output by one thread."""

    def __init__(self, listeners: list[socket.socket], once: bool) -> None:
        self._listeners = listeners
        self._once = once
        self._guests: dict[socket.socket, str] = {}
        self._cut = False

    def run(self) -> bool:
        """Until the first guest has ended, or for ever. Whether it ended by itself."""
        with selectors.DefaultSelector() as selector, ExitStack() as stack:
            stack.callback(self._close)
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    if sock in self._listeners:
                        self._accept(sock, selector)
                    elif not self._copy(sock, selector) and self._once:
                        return not self._cut

    def _accept(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        guest, _ = listener.accept()
        if len(self._guests) >= MAX_CONNECTIONS or (self._once and self._guests):
            guest.close()
            return
        with suppress(OSError):  # it has ended already
            expect_reset(guest)
        address = guest_address(guest)
        name = "a guest" if address is None else f"the guest with CID {address[0]}"
        self._guests[guest] = name
        selector.register(guest, selectors.EVENT_READ)
        click.echo(f"{name} has connected", err=True)

    def _copy(self, guest: socket.socket, selector: selectors.BaseSelector) -> bool:
        """False when the guest has ended."""
        end = "has ended"
        try:
            data = guest.recv(_CHUNK)
        except OSError:
            data = b""
            end = "was cut off"
            self._cut = True
        if data:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            return True
        selector.unregister(guest)
        click.echo(f"{self._guests.pop(guest)} {end}", err=True)
        guest.close()
        return False

    def _close(self) -> None:
        for guest in self._guests:
            guest.close()
