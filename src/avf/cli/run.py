"""`vm run`, and how any VM is run in the foreground."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import click

from avf.binder import BinderError
from avf.cli.options import (
    RunOptions,
    flush_output,
    run_options,
    service,
    standard_stream,
    typed_input,
)
from avf.cli.tell import JsonTeller, Teller, TextTeller
from avf.cli.text import CliError, quoted
from avf.client import (
    AppConfig,
    CpuTopology,
    DeathReason,
    DeathReport,
    PayloadError,
    PayloadFinished,
    RawConfig,
    VirtualizationService,
    VirtualMachine,
    load_raw_config,
    warnings_in,
)
from avf.printable import printable, printable_lines

TIMED_OUT = 124
"""The exit status when the time limit was over, as of timeout(1)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a VM ended, as far as an exit status can tell."""

    payload: int | None
    """The exit code of the payload; None if it did not finish."""
    timed_out: bool

    @property
    def status(self) -> int:
        """Of a command that does not pass the payload's on."""
        return TIMED_OUT if self.timed_out else 0


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--name", default="VmRun", show_default=True, help="What to call the VM.")
@run_options
def run(config: Path, name: str, **options: Unpack[RunOptions]) -> int:
    """Run the VM that the JSON file CONFIG describes.

    Its keys are kernel, initrd, params, bootloader, disks, protected, memory_mib and platform_version; paths are
    relative to the file.
    """
    raw = replace(
        load_raw_config(config),
        name=name,
        cpu_topology=CpuTopology[options["cpu_topology"].upper()],
        task_profiles=options["task_profiles"],
        gdb=options["gdb"] is not None,
        gdb_port=options["gdb"] or 0,
    )
    with service(options["image"], options["verbose"]) as connection:
        return run_vm(connection, raw, quoted(config), options).status


def run_vm(
    connection: VirtualizationService,
    config: AppConfig | RawConfig,
    description: str,
    options: RunOptions,
) -> Outcome:
    """Creates and starts a VM and tells of it until it ends."""
    console, log = options["console"], options["log"]
    teller = _teller(options)
    flush_output()
    output = standard_stream(sys.stderr if options["as_json"] else sys.stdout)
    outputs = (output if console is None else console, output if log is None else log)
    with (
        typed_input(options["console_in"]) as typed,
        _create(connection, config, outputs, typed) as vm,
    ):
        _start(vm, options["timeout"])
        report = None
        try:
            teller.created(vm, description)
            if options["gdb"] is not None and (path := vm.debugger_socket) is not None:
                click.echo(
                    printable(f"waiting for a debugger; in gdb: target remote {path}"), err=True
                )
            vm.add_listener(teller.event)
            reason = vm.wait_for_death()
            report = vm.death_report
            _tell_lost(report)
            if reason == DeathReason.SHUTDOWN:
                report = None
        finally:
            vm.close()
            teller.ended(vm.death_reason, report)
        if vm.death_reason == DeathReason.START_FAILED:
            _tell_log(connection, options)
        return Outcome(_exit_code(vm), vm.death_reason == DeathReason.TIMED_OUT)


def _teller(options: RunOptions) -> Teller:
    if options["as_json"]:
        return JsonTeller()
    return TextTeller(console_was_shown=options["console"] is None)


def _create(
    connection: VirtualizationService,
    config: AppConfig | RawConfig,
    outputs: tuple[Path | int | None, Path | int | None],
    typed: Path | int | None,
) -> VirtualMachine:
    console, log = outputs
    try:
        return connection.create_vm(config, console=console, console_in=typed, log=log)
    except BinderError as error:
        raise CliError("Failed to create VM") from error


def _start(vm: VirtualMachine, timeout: float | None) -> None:
    try:
        vm.start(timeout=timeout)
    except BinderError as error:
        raise CliError("Failed to start VM") from error


def _tell_lost(report: DeathReport | None) -> None:
    for text in report.lost_output if report is not None else ():
        click.echo(printable(f"Warning: output of the VM is lost: {text}"), err=True)


def _tell_log(connection: VirtualizationService, options: RunOptions) -> None:
    """What virtmgr said that is not everyday life, unless `-v` has shown it already."""
    if not options["verbose"] and (tail := warnings_in(connection.log_tail)):
        click.echo(f"virtmgr said:\n{printable_lines(tail)}", err=True)


def _exit_code(vm: VirtualMachine) -> int | None:
    """As a shell has it: of a payload that a signal ended, 128 and its number."""
    for event in vm.events():
        if isinstance(event, PayloadFinished):
            return event.exit_code
        if isinstance(event, PayloadError) and event.signal is not None:
            return 128 + event.signal
    return None
