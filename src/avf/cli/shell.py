"""`vm shell`, `vm push` and `vm pull`: into debuggable guests of VMs that run already."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import click

from avf.aidl.virtualizationservice import VirtualMachineState
from avf.binder import RemoteException
from avf.cli.control import LEAVE, controlled
from avf.cli.names import CID
from avf.cli.terminal import raw_terminal
from avf.client import Relay, ShellFailed
from avf.client.control import ControlledVm
from avf.printable import printable

LOST = 125
"""The exit status if nobody knows how the command ended."""
_RETRY_SECONDS = 0.3


class _ShellCommand(click.Command):
    """Options come before the guest's command, before or after CID."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        after_cid = next((n for n, word in enumerate(args) if not word.startswith("-")), 0) + 1
        end = after_cid
        while args[end : end + 1] == ["--root"]:
            end += 1
        return super().parse_args(ctx, args[after_cid:end] + args[:after_cid] + args[end:])


@click.command(cls=_ShellCommand, context_settings={"allow_interspersed_args": False})
@click.option("--root", is_flag=True, help="As root, not as the payload's user.")
@click.argument("cid", type=CID, metavar="VM")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def shell(cid: int, root: bool, command: tuple[str, ...]) -> int:
    """Run COMMAND inside a debuggable guest, or a shell.

    The exit status is that of the command, or 128+N if signal N ended it. From a terminal, the command gets a terminal
    of its own; Ctrl-] leaves it. COMMAND is not read by a shell: `sh -c '...'` does that.

    \b
    Examples:
      vm shell 2048
      vm shell 2048 ps -ef
      vm shell --root 2048 sh -c 'dmesg | tail'
    """
    with controlled(cid) as vm, ExitStack() as stack:
        wait_for_guest(vm)
        try:
            return _run(vm, command, root, stack)
        except _Left:
            return 0
        except ShellFailed as error:
            stack.close()
            click.echo(f"Error: {printable(str(error))}", err=True)
            return error.status if error.status in (126, 127) else LOST


@click.command()
@click.option("--root", is_flag=True, help="As root, not as the payload's user.")
@click.argument("cid", type=CID, metavar="VM")
@click.argument("paths", nargs=-1, required=True, metavar="LOCAL... REMOTE")
def push(cid: int, root: bool, paths: tuple[str, ...]) -> int:
    """Copy files and folders into a debuggable guest.

    REMOTE is a folder of the guest, or the new name of the only LOCAL. It counts from the user's home, /data or /root.
    Modes and times are kept. The exit status is 1 if something was left out.

    \b
    Examples:
      vm push 2048 input.csv /data/
      vm push 2048 tool folder /tmp
    """
    *sources, target = _sources_and_target(paths)
    with controlled(cid) as vm:
        wait_for_guest(vm)
        return _tell(vm.push(*sources, target=target, root=root))


@click.command()
@click.option("--root", is_flag=True, help="As root, not as the payload's user.")
@click.argument("cid", type=CID, metavar="VM")
@click.argument("paths", nargs=-1, required=True, metavar="REMOTE... LOCAL")
def pull(cid: int, root: bool, paths: tuple[str, ...]) -> int:
    """Copy files and folders out of a debuggable guest.

    LOCAL is a folder, or the new name of the only REMOTE. Modes and times are kept; links that lead out of their folder
    are left out. The exit status is 1 if something was left out.

    \b
    Examples:
      vm pull 2048 /data/result.json .
      vm pull --root 2048 /proc/config.gz config.gz
    """
    *sources, target = _sources_and_target(paths)
    with controlled(cid) as vm:
        wait_for_guest(vm)
        return _tell(vm.pull(*sources, target=target, root=root))


def wait_for_guest(vm: ControlledVm) -> None:
    """Returns once the guest has started its payload, or does not come that far."""
    told = False
    while vm.details().state == VirtualMachineState.STARTING:
        try:
            vm.connect_shell().close()
            return  # a guest whose payload is not told of, such as a raw VM's
        except RemoteException:
            if not told:
                click.echo("waiting for the guest to start its payload", err=True)
            told = True
            time.sleep(_RETRY_SECONDS)


class _Left(Exception):
    """The user has typed Ctrl-]."""


def _run(vm: ControlledVm, command: tuple[str, ...], root: bool, stack: ExitStack) -> int:
    source = None if sys.stdin is None else sys.stdin.fileno()
    terminal = _terminal_size()
    relay = vm.relay(
        command,
        source,
        {number: number for number, there in ((1, sys.stdout), (2, sys.stderr)) if there},
        root=root,
        environment={"TERM": os.environ.get("TERM", "dumb")} if terminal else None,
        terminal=terminal,
        typed=_typed if terminal else bytes,
    )
    stack.callback(relay.close)
    if terminal:
        click.echo("Ctrl-] leaves.", err=True)
        stack.enter_context(raw_terminal())
        stack.enter_context(_handled(signal.SIGWINCH, lambda: relay.resize(*_current_size())))
    else:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            stack.enter_context(_passed_on(number, relay))
    return relay.run().status


def _typed(data: bytes) -> bytes:
    if LEAVE in data:
        raise _Left
    return data


def _terminal_size() -> tuple[int, int] | None:
    """Rows and columns; None unless standard input and output are a terminal."""
    if sys.stdin is None or not (sys.stdin.isatty() and os.isatty(1)):
        return None
    return _current_size()


def _current_size() -> tuple[int, int]:
    columns, rows = os.get_terminal_size(1)
    return rows, columns


@contextmanager
def _handled(number: int, react: Callable[[], None]) -> Iterator[None]:
    def handler(_number: int, _frame: FrameType | None) -> None:
        react()

    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def _passed_on(number: int, relay: Relay) -> Iterator[None]:
    """The first signal goes to the command in the guest, the second does what it does else."""
    before = signal.getsignal(number)

    def pass_on() -> None:
        signal.signal(number, before)
        relay.signal(number)

    with _handled(number, pass_on):
        yield


def _sources_and_target(paths: tuple[str, ...]) -> tuple[str, ...]:
    if len(paths) < 2:
        raise click.UsageError("What to copy and where to takes two paths at least.")
    return paths


def _tell(left_out: list[str]) -> int:
    for remark in left_out:
        click.echo(f"left out: {printable(remark)}", err=True)
    return 1 if left_out else 0
