"""`vm top`: one's VMs and what they use."""

import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import click

from avf.cli.keys import Keys
from avf.cli.sizes import Number
from avf.cli.table import columns, duration
from avf.client import VmInfo
from avf.client.control import list_vms
from avf.printable import printable
from avf.printing import printable_json
from avf.top import Vm, VmAsker, can_show, show

_HEAD = ("CID", "NAME", "STATE", "PAYLOAD", "CPU%", "RSS MiB", "UPTIME", "UID", "PID")
_CLEAR = "\x1b[H\x1b[J"
_MORE = "`pip install 'avf-linux[top]'` brings a view with curves, consoles and logs."


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

    @classmethod
    def of(cls, vm: Vm) -> "Row":
        """What is known of the VM now."""
        details, now = vm.details, vm.now
        if details is None or vm.problem:
            return cls(vm.info.cid, vm.info.requester_uid)
        return cls(
            vm.info.cid,
            vm.info.requester_uid,
            details.name,
            details.state.name,
            details.payload_state.name,
            None if now is None else now.cpu_percent,
            None if now is None else now.vmm_mib,
            vm.uptime,
            details.vmm_pid,
        )

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
@click.option("-d", "--delay", type=Number(min=0.1), default=1.0, show_default=True,
              help="Seconds from one time that the VMs are asked to the next.")  # fmt: skip
def top(once: bool, as_json: bool, everybody: bool, delay: float) -> int:
    """Show your VMs, what they use and what they say.

    At a terminal this is a view of the list, of curves of CPU and memory, and of the console, the log and the report of
    one VM; the key ? lists its keys. Elsewhere a table is written, again and again. CPU% is that of the VM's process,
    its guest included: first since its start, then since the last time.
    """
    live = not once and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    if live and can_show():
        return show(everybody=everybody, interval=delay)
    _write_tables(once, as_json, live, None if everybody else os.getuid(), delay)
    return 0


def _write_tables(once: bool, as_json: bool, live: bool, uid: int | None, delay: float) -> None:
    with Watcher(uid) as watcher, Keys(live=live) as keys:
        while True:
            rows = watcher.rows()
            if as_json:
                click.echo(printable_json([asdict(row) for row in rows]))
            else:
                click.echo(f"{_CLEAR}{table(rows)}\n\n{_MORE} q leaves." if live else table(rows))
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
        self._askers: dict[VmInfo, VmAsker] = {}

    def rows(self) -> list[Row]:
        """Raises BinderError or ClientError if the VMs cannot be listed."""
        infos = [i for i in list_vms() if self._uid is None or i.requester_uid == self._uid]
        for gone in self._askers.keys() - set(infos):
            self._askers.pop(gone).close()
        for new in [info for info in infos if info not in self._askers]:
            self._askers[new] = VmAsker(new)
        return [Row.of(self._askers[info].ask()) for info in infos]

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_exc: object) -> None:
        with ExitStack() as stack:
            for asker in self._askers.values():
                stack.callback(asker.close)
