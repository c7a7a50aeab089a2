"""`vm list` and `vm info`."""

from dataclasses import asdict
from pathlib import Path

import click

from avf.cli.options import service
from avf.cli.text import quoted
from avf.client import VmInfo
from avf.printable import printable
from avf.printing import printable_json


@click.command("list", epilog="Example:  vm list --json")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON array.")
def list_vms(as_json: bool) -> None:
    """List the VMs of this host, whoever runs them."""
    with service() as connection:
        infos = connection.debug_list_vms()
    if as_json:
        rows = [asdict(info) | {"debugger_socket": info.debugger_socket} for info in infos]
        click.echo(printable_json(rows, indent=2))
        return
    click.echo(f"Running VMs: {_debug_form(infos)}")
    for info in infos:
        if info.debugger_socket is not None:
            click.echo(printable(f"CID {info.cid}, in gdb: target remote {info.debugger_socket}"))


def _debug_form(infos: list[VmInfo]) -> str:
    if not infos:
        return "[]"
    lines = ["["]
    for info in infos:
        lines += [
            "    VirtualMachineDebugInfo {",
            f"        cid: {info.cid},",
            f"        temporaryDirectory: {quoted(info.temporary_directory)},",
            f"        requesterUid: {info.requester_uid},",
            f"        requesterPid: {info.requester_pid},",
            "    },",
        ]
    return "\n".join([*lines, "]"])


@click.command(epilog="Example:  vm info --json")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def info(as_json: bool) -> None:
    """Say in three lines which VMs this host supports."""
    version = _hypervisor_version()
    kvm = Path("/dev/kvm").exists()
    if as_json:
        facts = {
            "protected_vms": False,
            "non_protected_vms": version is not None,
            "hypervisor_version": version,
            "dev_kvm": kvm,
        }
        click.echo(printable_json(facts, indent=2))
        return
    if version is None:
        click.echo("VMs are not supported.")
        click.echo("Hypervisor version not set.")
    else:
        click.echo("Only non-protected VMs are supported.")
        click.echo(printable(f"Hypervisor version: {version}"))
    click.echo(f"/dev/kvm {'exists' if kvm else 'does not exist'}.")


def _hypervisor_version() -> str | None:
    from avf.vmm import VmmUnavailable, qemu_version

    try:
        return qemu_version()
    except VmmUnavailable:
        return None
