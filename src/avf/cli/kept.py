"""`vm ls`, `vm start` and `vm rm`: the VMs that are kept in the store, and those that run."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Unpack

import click

from avf.binder import BinderError
from avf.cli.app_source import App
from avf.cli.app_store import held_vm, store_errors
from avf.cli.detach import detach_option
from avf.cli.invocation import PayloadCommand, env_option, environment, payload_arguments
from avf.cli.names import StoredName, cid_of, stored_vm
from avf.cli.options import RunOptions, run_options, service
from avf.cli.run import run_vm
from avf.cli.run_app import describe, teller_for
from avf.cli.table import columns, duration
from avf.cli.text import CliError
from avf.cli.top import Row, Watcher
from avf.client import ClientError
from avf.client.control import open_vm
from avf.client.store import OWN_APK, StoredVm, VmStore
from avf.printable import printable
from avf.printing import printable_json

_STOPPED = "STOPPED"
_LETTING_GO_SECONDS = 10
_HEAD = ("NAME", "CID", "STATE", "UPTIME", "MEM", "PAYLOAD", "UID")


@dataclass(frozen=True, slots=True)
class Line:
    """One VM. What is not known, or does not apply, is None."""

    name: str | None
    cid: int | None
    state: str | None
    uptime: float | None
    memory_mib: float | None
    """What its VMM takes of the host's memory now."""
    payload: str | None
    """The payload's name in its APK; of a VM that is not kept, the state of the payload."""
    uid: int
    kept: bool

    def cells(self) -> tuple[str, ...]:
        return (
            "-" if self.name is None else printable(self.name)[:32],
            "-" if self.cid is None else str(self.cid),
            self.state or "-",
            "-" if self.uptime is None else duration(self.uptime),
            "-" if self.memory_mib is None else f"{self.memory_mib:.0f}M",
            "-" if self.payload is None else printable(self.payload)[:40],
            str(self.uid),
        )


@click.command("ls", epilog="Example:  vm ls --json")
@click.option("-a", "--all", "everybody", is_flag=True, help="Show other users' VMs as well.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON array.")
def ls(everybody: bool, as_json: bool) -> None:
    """Show your VMs: those that run, and those that are kept."""
    lines = list(_lines(None if everybody else os.getuid()))
    if as_json:
        click.echo(printable_json([asdict(line) for line in lines], indent=2))
    else:
        click.echo(
            columns(_HEAD, [line.cells() for line in lines], {"CID", "UPTIME", "MEM", "UID"})
        )


def _lines(uid: int | None) -> Iterator[Line]:
    kept = {vm.name: vm for vm in _kept()}
    with Watcher(uid) as watcher:
        rows = watcher.rows()
    for row in rows:
        own = row.requester_uid == os.getuid()
        vm = kept.pop(row.name, None) if own and row.name and _runs(kept.get(row.name)) else None
        yield _running(row, vm)
    for vm in kept.values():
        state = "STARTING" if vm.running else _STOPPED
        yield Line(vm.name, None, state, None, None, _payload(vm), os.getuid(), True)


def _kept() -> list[StoredVm]:
    store = VmStore()
    found = (store.get(name) for name in store.names())
    return [vm for vm in found if vm is not None]


def _runs(vm: StoredVm | None) -> bool:
    return vm is not None and vm.running


def _running(row: Row, vm: StoredVm | None) -> Line:
    payload = row.payload_state if vm is None else _payload(vm)
    name, state = row.name, row.state
    return Line(
        name, row.cid, state, row.uptime, row.rss_mib, payload, row.requester_uid, vm is not None
    )


def _payload(vm: StoredVm) -> str | None:
    try:
        config = vm.config
    except ClientError:
        return None
    return config.payload_binary_name or config.config_path


@click.command(
    "start", cls=PayloadCommand, epilog="Example:  vm start counter --env STEP=2 -- once"
)
@click.argument("name", type=StoredName())
@env_option
@detach_option
@click.option("--kernel-log", is_flag=True, help="Show what the guest's kernel and agent say too.")
@click.option("--payload-status/--no-payload-status", default=None,
              help="Exit with the payload's exit code.  [default: only for what is not an APK]")  # fmt: skip
@run_options
def start(
    name: str,
    env: tuple[tuple[str, str], ...],
    payload_status: bool | None,
    **options: Unpack[RunOptions],
) -> int:
    """Run the VM NAME, which `vm run-app --name NAME` has made, and give it the ARGUMENTs.

    The VM runs until its payload ends, `vm stop` ends it, or, without --detach, this command ends.
    """
    vm = stored_vm(name)
    with store_errors(name):
        stored = vm.config
    apk = vm.folder / stored.apk
    app = App(apk, stored.payload_binary_name, stored.config_path, made=stored.apk == OWN_APK)
    with (
        service(options["image"], options["verbose"]) as connection,
        held_vm(connection, vm) as held,
    ):
        config = replace(
            held,
            task_profiles=options["task_profiles"],
            gdb=options["gdb"] is not None,
            gdb_port=options["gdb"] or 0,
            args=payload_arguments(),
            env=environment(env),
        )
        outcome = run_vm(
            connection, config, describe(app), options, teller_for(app, config, options)
        )
    wanted = app.is_source if payload_status is None else payload_status
    return outcome.payload_status if wanted else outcome.status


@click.command("rm", epilog="Example:  vm rm counter")
@click.argument("names", type=StoredName(), nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--force", is_flag=True, help="Stop it first if it runs.")
def rm(names: tuple[str, ...], force: bool) -> None:
    """Remove VMs that are kept, with their storage and their secrets."""
    found = [stored_vm(name) for name in names]
    with service() as connection:
        for vm in found:
            if force and vm.running:
                _stop(vm)
            with store_errors(vm.name):
                vm.delete(connection)


def _stop(vm: StoredVm) -> None:
    """Whoever runs it has some seconds to learn of its end and to let go of its files."""
    with suppress(CliError, ClientError, BinderError), open_vm(cid_of(vm.name)) as running:
        running.stop()
    deadline = time.monotonic() + _LETTING_GO_SECONDS
    while vm.running and time.monotonic() < deadline:
        time.sleep(0.02)
