"""`vm pool`: clones of booted guests that wait for the VMs of a command."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from avf import settings
from avf.causes import words
from avf.cli.options import service
from avf.cli.paths import FOLDER
from avf.cli.sizes import Size, WholeNumber
from avf.cli.tell import print_note
from avf.cli.text import CliError
from avf.client import MAX_WARM, CpuTopology, DebugLevel, VirtualizationService, connect
from avf.printable import printable
from avf.printing import printable_json

VARIABLE = "AVF_POOL"
_DEFAULT_COUNT = 2
_POLL_SECONDS = 0.2


@click.group(epilog="Example:  vm pool run -n 4 -- make test")
def pool() -> None:
    """Keep clones of booted guests waiting while a command runs, so that its VMs start at once."""


@pool.command(context_settings={"ignore_unknown_options": True},
              epilog="Example:  vm pool run --debug full -- python tests.py")  # fmt: skip
@click.option("-n", "--count", type=WholeNumber(1, MAX_WARM), default=_DEFAULT_COUNT,
              show_default=True, help="How many clones wait.")  # fmt: skip
@click.option("--debug", type=click.Choice(["none", "full"]), default="none", show_default=True,
              help="For VMs of which debug level, at first.")  # fmt: skip
@click.option("-m", "--mem", type=Size("m", minimum=1, maximum=(1 << 31) - 1), metavar="SIZE",
              help="For VMs with how much memory, at first.  [default: what the image asks for]")  # fmt: skip
@click.option("--cpu-topology", type=click.Choice(["one_cpu", "match_host"]), default="one_cpu",
              show_default=True, help="For VMs with how many CPUs, at first.")  # fmt: skip
@click.option("--wait", is_flag=True, help="Start the command when all clones wait.")
@click.option("--image", type=FOLDER, help="Folder of the guest image (microdroid.json).")
@click.option("-v", "--verbose", is_flag=True, help="Show what virtmgr logs.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND [ARGUMENT]...]")
def run(
    count: int,
    debug: str,
    mem: int | None,
    cpu_topology: str,
    wait: bool,
    image: Path | None,
    verbose: bool,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND, by default your shell, with clones that wait for the VMs it starts.

    Whatever starts VMs within it, `vm` or a program with avf.client, shares one virtmgr. Each VM still ends with the
    program that started it; the clones end with COMMAND, whose exit status is passed on. What the clones are like
    follows the VMs that are started.
    """
    if settings.pool() is not None:
        raise CliError("this command runs within a pool already", "`vm pool status` shows it")
    with ExitStack() as stack:
        connection = stack.enter_context(service(image, verbose))
        connection.keep_clones_waiting(
            count,
            debug_level=DebugLevel.FULL if debug == "full" else DebugLevel.NONE,
            memory_mib=mem,
            cpu_topology=CpuTopology[cpu_topology.upper()],
        )
        if wait:
            _wait_until_filled(connection)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="avf-pool-"))
        path = Path(folder, "virtmgr.sock")
        stack.enter_context(connection.share(path))
        return _run(command or (os.environ.get("SHELL") or "/bin/sh",), path)


@pool.command(epilog="Example:  vm pool status --json")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def status(as_json: bool) -> None:
    """Show the clones of the pool that this command runs in."""
    if settings.pool() is None:
        raise CliError("there is no pool here", "`vm pool run -- COMMAND` runs a command in one")
    with connect() as connection:
        found = connection.pool_status()
    if as_json:
        click.echo(printable_json(asdict(found), indent=2))
        return
    click.echo(f"{found.waiting} of {found.wanted} clones wait")
    click.echo(f"VMs that had one: {found.taken}; that had none: {found.missed}")
    if found.vmm_pids:
        click.echo(f"processes: {' '.join(map(str, found.vmm_pids))}")
    if found.problem is not None:
        click.echo(printable(f"problem: {found.problem}"))


def _wait_until_filled(connection: VirtualizationService) -> None:
    """Returns when there will be no more clones for now, and says why there are not as many as there should be."""
    said = None
    while True:
        found = connection.pool_status()
        if found.problem not in (None, said):
            print_note(str(found.problem))
            said = found.problem
        if found.settled:
            return
        time.sleep(_POLL_SECONDS)


def _run(command: Sequence[str], path: Path) -> int:
    """The exit status as a shell has it."""
    try:
        process = subprocess.Popen(command, env=os.environ | {VARIABLE: str(path)})
    except OSError as error:
        raise CliError(f"cannot run {words(error)}") from error
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is typed is for the command
    try:
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return 128 - status if status < 0 else status
