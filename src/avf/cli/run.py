"""`vm run`, and how any VM is run in the foreground."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import click

from avf.binder import BinderError
from avf.cli.options import RunOptions, flush_output, run_options, service, standard_stream
from avf.cli.tell import JsonTeller, Teller, TextTeller
from avf.cli.text import CliError, quoted
from avf.client import (
    AppConfig,
    CpuTopology,
    DeathReason,
    PayloadFinished,
    RawConfig,
    VirtualizationService,
    VirtualMachine,
    load_raw_config,
)


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--name", default="VmRun", show_default=True, help="What to call the VM.")
@run_options
def run(config: Path, name: str, **options: Unpack[RunOptions]) -> None:
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
        run_vm(connection, raw, quoted(config), options)


def run_vm(
    connection: VirtualizationService,
    config: AppConfig | RawConfig,
    description: str,
    options: RunOptions,
) -> int | None:
    """Creates and starts a VM and tells of it until it ends. Returns the payload's exit code if it finished."""
    console, log = options["console"], options["log"]
    teller = _teller(options)
    flush_output()
    output = standard_stream(sys.stderr if options["as_json"] else sys.stdout)
    with _create(
        connection, config, output if console is None else console, output if log is None else log
    ) as vm:
        try:
            _start(vm)
        except CliError:
            _tell_log(connection, options)
            raise
        report = None
        try:
            teller.created(vm, description)
            if options["gdb"] is not None and (path := vm.debugger_socket) is not None:
                click.echo(f"waiting for a debugger; in gdb: target remote {path}", err=True)
            vm.add_listener(teller.event)
            if vm.wait_for_death() != DeathReason.SHUTDOWN:
                report = vm.death_report
        finally:
            vm.close()
            teller.ended(vm.death_reason, report)
        if vm.death_reason == DeathReason.START_FAILED:
            _tell_log(connection, options)
        return _exit_code(vm)


def _teller(options: RunOptions) -> Teller:
    if options["as_json"]:
        return JsonTeller()
    return TextTeller(console_was_shown=options["console"] is None)


def _create(
    connection: VirtualizationService,
    config: AppConfig | RawConfig,
    console: Path | int | None,
    log: Path | int | None,
) -> VirtualMachine:
    try:
        return connection.create_vm(config, console=console, log=log)
    except BinderError as error:
        raise CliError("Failed to create VM") from error


def _start(vm: VirtualMachine) -> None:
    try:
        vm.start()
    except BinderError as error:
        raise CliError("Failed to start VM") from error


def _tell_log(connection: VirtualizationService, options: RunOptions) -> None:
    """What virtmgr knows of a failed start, unless `-v` has shown it already."""
    if not options["verbose"] and (tail := connection.log_tail):
        click.echo(f"virtmgr said:\n{tail}", err=True)


def _exit_code(vm: VirtualMachine) -> int | None:
    return next(
        (event.exit_code for event in vm.events() if isinstance(event, PayloadFinished)), None
    )
