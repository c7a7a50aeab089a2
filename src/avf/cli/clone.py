"""`vm clone`: a VM that goes on from where another one is."""

from contextlib import ExitStack
from pathlib import Path
from typing import cast

import click

from avf.binder import BinderError
from avf.cli.control import controlled
from avf.cli.names import CID
from avf.cli.options import RunOptions
from avf.cli.paths import FILE
from avf.cli.run import Outputs, follow, outcome_of, outputs_of
from avf.cli.tell import JsonTeller, SourceTeller, Teller
from avf.cli.text import CliError
from avf.client import VirtualMachine
from avf.client.control import ControlledVm


@click.command(epilog="Example:  vm clone counter --name second")
@click.argument("cid", type=CID, metavar="VM")
@click.option(
    "--name", default="", help="What to call the clone.  [default: VM's name and a number]"
)
@click.option("--console", type=FILE, help="Where the console goes.  [default: nowhere]")
@click.option("--log", type=FILE, help="Where the guest's log goes.  [default: standard output]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Kill the clone when it has run that long, and exit with status 124.",
)
@click.option("--json", "as_json", is_flag=True,
              help="Tell events as JSON lines; the log goes to standard error.")  # fmt: skip
def clone(
    cid: int,
    name: str,
    console: Path | None,
    log: Path | None,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Copy VM, named by its CID or its name, while it runs; run the copy until it ends, and exit as its payload does.

    VM must have been made for it (`vm run-app --forkable`). It stands still for a moment, its vsock connections end,
    and it runs on. The clone ends with this command, and with whoever runs VM.
    """
    options = cast(
        "RunOptions",
        {
            "console": console,
            "log": log,
            "timeout": timeout,
            "as_json": as_json,
            "timeline": False,
            "report": None,
            "otlp": None,
        },
    )
    with controlled(cid) as vm, ExitStack() as stack:
        outputs = stack.enter_context(outputs_of(options, is_app=True))
        copy = stack.enter_context(_fork(vm, name, outputs))
        teller: Teller = JsonTeller()
        if not as_json:
            teller = SourceTeller(console_was_shown=False, debuggable=vm.parts().is_debuggable)

        def started() -> None:
            teller.created(copy, f"a clone of VM {cid}")
            copy.add_listener(teller.event)

        follow(copy, options, teller, started, stack)
        return outcome_of(copy, is_app=True).payload_status


def _fork(vm: ControlledVm, name: str, outputs: Outputs) -> VirtualMachine:
    try:
        return vm.fork(name, console=outputs.console, log=outputs.log)
    except BinderError as error:
        raise CliError("Failed to clone VM") from error
