"""`vm report`: the life of a VM as one page."""

import sys
from pathlib import Path

import click

from avf.cli.control import controlled
from avf.cli.names import CID
from avf.cli.output_file import check_target, write_target
from avf.cli.paths import FILE
from avf.cli.text import CliError
from avf.overwriting import Kind


@click.command(epilog="Example:  vm report counter > report.html")
@click.argument("cid", type=CID, metavar="VM")
@click.option("-o", "--output", type=FILE, metavar="FILE",
              help="Where the page goes.  [default: standard output]")  # fmt: skip
def report(cid: int, output: Path | None) -> None:
    """Write a page about a VM, named by its CID or its name: HTML that needs nothing beside it.

    It tells what ran, where the time of the start went, what the VM used, what proves that it was this code, what
    happened in its life and how it ended. A VM that has died can be reported as long as its owner holds it.
    """
    from avf.report import gather, render

    if output is None and sys.stdout.isatty():
        raise CliError(
            "a page of HTML is not for a terminal", f"vm report {cid} > report.html, or -o FILE"
        )
    if output is not None:
        check_target(output, Kind.REPORT)
    with controlled(cid) as vm:
        page = render(gather(vm, vm.death_report()))
    if output is None:
        sys.stdout.buffer.write(page.encode("utf-8", "backslashreplace"))
    else:
        write_target(output, page, Kind.REPORT)
