"""`vm top`: one's VMs and what they use."""

import os
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import click

from avf.binder import BinderError
from avf.cli.keys import Keys
from avf.cli.table import columns, duration
from avf.client import VmInfo
from avf.client.control import ControlledVm, list_vms, open_vm_in
from avf.printable import printable
from avf.printing import printable_json

_HEAD = ("CID", "NAME", "STATE", "PAYLOAD", "CPU%", "RSS MiB", "UPTIME", "UID", "PID")
_CLEAR = "\x1b[H\x1b[J"


@dataclass(frozen=True, slots=True)
class Row:
    """One VM. What is not known of a VM that another controls is None."""

    cid: int
    requester_uid: int
    name: str | None = None
    state: str | None = None
    payload_state: str | None = None
    cpu_percent: float | None = None
    rss_mib: float | None = None
    uptime: float | None = None
    vmm_pid: int | None = None

    def cells(self) -> tuple[str, ...]:
        return (
            str(self.cid),
            "-" if self.name is None else printable(self.name)[:24],
            self.state or "-",
            self.payload_state or "-",
            "-" if self.cpu_percent is None else f"{self.cpu_percent:.1f}",
            "-" if self.rss_mib is None else f"{self.rss_mib:.0f}",
            "-" if self.uptime is None else duration(self.uptime),
            str(self.requester_uid),
            "-" if self.vmm_pid is None else str(self.vmm_pid),
        )


@click.command(epilog="Example:  vm top --once --json")
@click.option("--once", is_flag=True, help="Show one table and leave.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON array a line.")
@click.option("-a", "--all", "everybody", is_flag=True, help="Show other users' VMs as well.")
@click.option("-d", "--delay", type=click.FloatRange(min=0.1), default=2.0, show_default=True,
              help="Seconds between two tables.")  # fmt: skip
def top(once: bool, as_json: bool, everybody: bool, delay: float) -> None:
    """Show your VMs and what they use, over and over.

    The key q leaves. CPU% is that of the VM's process, its guest included: first since its start, then since the last
    table.
    """
    live = not once and not as_json and sys.stdout.isatty()
    with Watcher(None if everybody else os.getuid()) as watcher, Keys(live=live) as keys:
        while True:
            rows = watcher.rows()
            if as_json:
                click.echo(printable_json([asdict(row) for row in rows]))
            else:
                click.echo((_CLEAR if live else "") + table(rows))
            sys.stdout.flush()
            if once or keys.quit_within(delay):
                return


def table(rows: list[Row]) -> str:
    """The rows as columns of text, numbers to the right."""
    right = {"CID", "CPU%", "RSS MiB", "UPTIME", "UID", "PID"}
    return columns(_HEAD, [row.cells() for row in rows], right)


class Watcher:
    """Keeps a connection to each VM, and what it had used when it was last asked."""

    def __init__(self, uid: int | None) -> None:
        """`uid`: whose VMs, None for all."""
        self._uid = uid
        self._vms: dict[str, ControlledVm] = {}
        self._used: dict[str, tuple[float, int]] = {}

    def rows(self) -> list[Row]:
        infos = [i for i in list_vms() if self._uid is None or i.requester_uid == self._uid]
        for gone in self._vms.keys() - {info.temporary_directory for info in infos}:
            self._forget(gone)
        return [self._row(info) for info in infos]

    def _row(self, info: VmInfo) -> Row:
        key = info.temporary_directory
        try:
            if key not in self._vms:
                self._vms[key] = open_vm_in(key)
            details, metrics = self._vms[key].details(), self._vms[key].metrics()
        except (OSError, BinderError):
            self._forget(key)
            return Row(info.cid, info.requester_uid)
        running = details.vmm_pid is not None
        return Row(
            info.cid,
            info.requester_uid,
            details.name,
            details.state.name,
            details.payload_state.name,
            self._cpu_percent(key, metrics.cpu_time_millis, details.uptime) if running else None,
            metrics.rss_vmm_kb / 1024 if running else None,
            details.uptime if running else None,
            details.vmm_pid,
        )

    def _cpu_percent(self, key: str, used: int, uptime: float | None) -> float:
        now = time.monotonic()
        since, before = self._used.get(key, (now - (uptime or 0), 0))
        self._used[key] = now, used
        return max(0.0, (used - before) / 10 / (now - since)) if now > since else 0.0

    def _forget(self, key: str) -> None:
        self._used.pop(key, None)
        if (vm := self._vms.pop(key, None)) is not None:
            vm.close()

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_exc: object) -> None:
        with ExitStack() as stack:
            for vm in self._vms.values():
                stack.callback(vm.close)
