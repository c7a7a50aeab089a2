"""Which VMs are shown, in which order, and which one is chosen."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from avf.client import VmInfo
from avf.top.model import Snapshot, Vm
from avf.top.words import mib, percent, span


class Column(Enum):
    """What is shown of a VM, and what VMs are sorted by."""

    CID = "CID"
    NAME = "NAME"
    STATE = "STATE"
    CPU = "CPU"
    MEMORY = "MEMORY"
    UPTIME = "UPTIME"
    USER = "USER"


@dataclass(frozen=True, slots=True)
class _Rule:
    order: Callable[[Vm], Any]
    text: Callable[[Vm], str]
    largest_first: bool = False


_RULES = {
    Column.CID: _Rule(lambda vm: vm.cid, lambda vm: str(vm.cid)),
    Column.NAME: _Rule(lambda vm: vm.name.lower(), lambda vm: vm.name or "-"),
    Column.STATE: _Rule(lambda vm: list(type(vm.phase)).index(vm.phase), lambda vm: vm.state),
    Column.CPU: _Rule(lambda vm: vm.now.cpu_percent if vm.now else -1.0,
                      lambda vm: percent(vm.now.cpu_percent if vm.now else None), largest_first=True),
    Column.MEMORY: _Rule(lambda vm: vm.now.vmm_mib if vm.now else -1.0,
                         lambda vm: mib(vm.now.vmm_mib if vm.now else None), largest_first=True),
    Column.UPTIME: _Rule(lambda vm: -1.0 if vm.uptime is None else vm.uptime,
                         lambda vm: span(vm.uptime), largest_first=True),
    Column.USER: _Rule(lambda vm: vm.user, lambda vm: vm.user),
}  # fmt: skip


def cell(vm: Vm, column: Column) -> str:
    """What a column says of a VM."""
    return _RULES[column].text(vm)


class Board:
    """The list of VMs as somebody looks at it. The chosen VM stays the chosen one wherever it moves."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._cleared: set[VmInfo] = set()
        self._rows: list[Vm] = []
        self._chosen: VmInfo | None = None
        self._index = 0
        self.filter = ""
        self.sort = Column.CID
        self.backwards = False

    @property
    def rows(self) -> list[Vm]:
        return self._rows

    @property
    def total(self) -> int:
        """How many VMs there are, shown or not."""
        return len(self._all())

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    @property
    def chosen(self) -> Vm | None:
        return self._rows[self._index] if self._rows else None

    @property
    def index(self) -> int:
        """Of the chosen one in `rows`."""
        return self._index

    def update(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._cleared &= {vm.info for vm in snapshot.vms}
        self._arrange()

    def choose(self, index: int) -> None:
        """The row with that number, or the nearest one."""
        self._index = max(0, min(index, len(self._rows) - 1))
        self._chosen = self._rows[self._index].info if self._rows else None

    def filter_by(self, text: str) -> None:
        """Shows those that have each of the words in what is shown of them."""
        self.filter = text
        self._arrange()

    def sort_by(self, column: Column) -> None:
        """In the usual order of that column; the other way round if it is sorted by that already."""
        self.backwards = not self.backwards if column is self.sort else False
        self.sort = column
        self._arrange()

    def clear_ended(self) -> None:
        """Shows those that have gone no more."""
        self._cleared |= {vm.info for vm in self._snapshot.vms if vm.gone}
        self._arrange()

    def _all(self) -> list[Vm]:
        return [vm for vm in self._snapshot.vms if vm.info not in self._cleared]

    def _arrange(self) -> None:
        words = self.filter.lower().split()
        rows = [vm for vm in self._all() if all(word in _words(vm) for word in words)]
        rows.sort(key=lambda vm: vm.cid)
        rule = _RULES[self.sort]
        rows.sort(key=rule.order, reverse=rule.largest_first != self.backwards)
        self._rows = rows
        found = [n for n, vm in enumerate(rows) if vm.info == self._chosen]
        if found:
            self._index = found[0]
        else:
            self.choose(self._index)


def _words(vm: Vm) -> str:
    return " ".join(
        cell(vm, column) for column in (Column.CID, Column.NAME, Column.STATE, Column.USER)
    ).lower()
