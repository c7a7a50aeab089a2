"""`vm stop`, `vm console` and `vm logs`: VMs that run already, whichever process has made them."""

import os
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click

from avf.binder import DeadObjectError, RemoteException
from avf.cli.names import CID
from avf.cli.terminal import raw_terminal
from avf.cli.text import CliError
from avf.client.control import ControlledVm, open_vm
from avf.printable import printable_lines

LEAVE = b"\x1d"
"""Ctrl-]"""
_CHUNK = 64 << 10


@click.command(epilog="Example:  vm stop counter")
@click.argument("cid", type=CID, metavar="VM")
def stop(cid: int) -> None:
    """Kill a VM, named by its CID or its name, and wait until all of it is gone."""
    with controlled(cid) as vm:
        vm.stop()


@click.command(epilog="Example:  vm console 2048")
@click.argument("cid", type=CID, metavar="VM")
def console(cid: int) -> None:
    """Show what the console of a VM said last and goes on to say, and type into it.

    Ctrl-] leaves. A VM takes input if it is debuggable or raw, unless its own console is a socket.
    """
    with controlled(cid) as vm, ExitStack() as stack:
        _refuse_mute(vm)
        details = vm.details()
        stream = stack.enter_context(vm.attach_console())
        if sys.stdin is None or not (details.takes_console_input or sys.stdin.isatty()):
            _copy(stream)
            return
        if sys.stdin.isatty():
            how = "" if details.takes_console_input else "; this VM takes no input"
            click.echo(f"Ctrl-] leaves{how}.", err=True)
            stack.enter_context(raw_terminal(keep_output=True))
        _converse(stream, speak=details.takes_console_input)


@click.command(epilog="Example:  vm logs -f counter")
@click.argument("cid", type=CID, metavar="VM")
@click.option("-f", "--follow", is_flag=True, help="Go on until the VM ends.")
def logs(cid: int, follow: bool) -> None:
    """Show the last lines of a VM's log."""
    with controlled(cid) as vm:
        _refuse_mute(vm)
        _show_log(vm, follow)


def _refuse_mute(vm: ControlledVm) -> None:
    """Only guests that are debuggable or raw write to console and log; it is they that take input."""
    details = vm.details()
    if details.has_console and not details.takes_console_input:
        raise CliError(
            f"VM {details.cid} is not debuggable, so its guest writes nothing",
            "`vm run-app --debug full` makes one that is",
        )


def _show_log(vm: ControlledVm, follow: bool) -> None:
    with vm.follow_log(live=follow) as stream:
        _copy(stream, harmless=True)


@contextmanager
def controlled(cid: int) -> Iterator[ControlledVm]:
    """The VM with that CID; what it refuses becomes an error of the command."""
    with open_vm(cid) as vm:
        try:
            yield vm
        except RemoteException as error:
            raise CliError(error.message) from None
        except DeadObjectError:
            raise CliError(f"the VM with CID {cid} is gone") from None


def _copy(stream: socket.socket, *, harmless: bool = False) -> None:
    filtered = harmless and sys.stdout.isatty()
    while data := stream.recv(_CHUNK):
        if filtered:
            data = printable_lines(data.decode(errors="replace")).encode()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def _converse(stream: socket.socket, *, speak: bool) -> None:
    """Between standard streams and the console, until it ends or the user leaves."""
    source = sys.stdin.fileno()
    interactive = os.isatty(source)
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    poll.register(source, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            data = os.read(fd, _CHUNK)
            if fd == stream.fileno():
                if not data:
                    return
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
            elif interactive and (LEAVE in data or not data):
                return
            elif not data:
                poll.unregister(source)
                stream.shutdown(socket.SHUT_WR)
            elif speak:
                stream.sendall(data)
