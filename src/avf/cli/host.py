"""`vm list` and `vm info`."""

from pathlib import Path

import click

from avf.cli.options import service
from avf.cli.text import quoted
from avf.client import VmInfo


@click.command("list")
def list_vms() -> None:
    """List the VMs of this host, whoever runs them."""
    with service() as connection:
        click.echo(f"Running VMs: {_debug_form(connection.debug_list_vms())}")


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


@click.command()
def info() -> None:
    """Say in three lines which VMs this host supports."""
    from avf.vmm import VmmUnavailable, qemu_version

    try:
        version = qemu_version()
    except VmmUnavailable:
        click.echo("VMs are not supported.")
        click.echo("Hypervisor version not set.")
    else:
        click.echo("Only non-protected VMs are supported.")
        click.echo(f"Hypervisor version: {version}")
    there = "exists" if Path("/dev/kvm").exists() else "does not exist"
    click.echo(f"/dev/kvm {there}.")
