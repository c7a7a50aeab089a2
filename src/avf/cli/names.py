"""VMs by their names: those that run, and those that are kept in the store."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from avf.binder import BinderError
from avf.cli.text import CliError
from avf.client.control import list_vms, open_vm_in
from avf.client.store import StoredVm, VmStore

_MAX_CID = (1 << 32) - 1


class CidType(click.ParamType):  # type: ignore[type-arg]
    """A VM that runs, by its CID or its name; the command gets the CID."""

    name = "vm"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not value.isdecimal() or not value.isascii():
            return cid_of(value)
        if not 0 <= int(value) <= _MAX_CID:
            self.fail(f"{value} is no CID.", param, ctx)
        return int(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            names = [name for name, _ in running_names()]
            cids = [str(info.cid) for info in list_vms()]
        except (BinderError, OSError):
            return []
        words = [*cids, *dict.fromkeys(names)]
        return [CompletionItem(word) for word in words if word and word.startswith(incomplete)]


class StoredName(click.ParamType):  # type: ignore[type-arg]
    """A VM of the store, by its name."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("A VM's name is not empty.", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            names = VmStore().names()
        except OSError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


CID = CidType()


def running_names() -> Iterator[tuple[str, int]]:
    """(name, CID) of the VMs that run and that we may look into."""
    for info in list_vms():
        try:
            with open_vm_in(info.temporary_directory) as vm:
                yield vm.details().name, info.cid
        except (OSError, BinderError):
            continue


def cid_of(name: str) -> int:
    """The CID of the running VM of that name. Raises CliError if there is none, or more than one."""
    names = list(running_names())
    cids = [cid for found, cid in names if found == name]
    if len(cids) == 1:
        return cids[0]
    if cids:
        told = ", ".join(map(str, cids))
        raise CliError(f"several VMs are called {name}: CIDs {told}", "name one by its CID")
    if name in VmStore().names():
        raise CliError(f"VM {name} does not run", f"`vm start {name}` starts it")
    raise CliError(f"no VM is called {name}", closest(name, (found for found, _ in names)))


def stored_vm(name: str) -> StoredVm:
    """The VM of the store. Raises CliError."""
    store = VmStore()
    vm = None if name.startswith(".") or "/" in name or not name else store.get(name)
    if vm is None:
        raise CliError(f"no VM {name} is kept", closest(name, store.names()))
    return vm


def closest(word: str, known: Iterable[str]) -> str | None:
    """A hint at what might have been meant."""
    found = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {found[0]}?" if found else "`vm ls` shows the VMs"
