"""`vm run`, and how any VM is run in the foreground."""

from dataclasses import replace
from pathlib import Path
from typing import Unpack

import click

from avf.binder import BinderError
from avf.cli.options import RunOptions, flush_output, run_options, service, standard_output
from avf.cli.text import CliError, harmless, quoted
from avf.client import (
    AppConfig,
    CpuTopology,
    DeathReason,
    Event,
    PayloadError,
    PayloadFinished,
    PayloadReady,
    PayloadStarted,
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
    flush_output()
    with _create(
        connection,
        config,
        standard_output() if console is None else console,
        standard_output() if log is None else log,
    ) as vm:
        try:
            _start(vm)
        except CliError:
            _tell_log(connection, options)
            raise
        try:
            print_line(
                f"Created VM from {description} with CID {vm.cid}, state is {vm.state.name}."
            )
            vm.add_listener(_tell)
            vm.wait_for_death()
        finally:
            vm.close()
            print_line(f"VM ended: {vm.death_reason}")
        if vm.death_reason == DeathReason.START_FAILED:
            _tell_log(connection, options)
        return _exit_code(vm)


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


def _tell(event: Event) -> None:
    match event:
        case PayloadStarted():
            click.echo("payload started", err=True)
        case PayloadReady():
            click.echo("payload is ready", err=True)
        case PayloadFinished(exit_code):
            click.echo(f"payload finished with exit code {exit_code}", err=True)
        case PayloadError(code, message):
            click.echo(
                f"VM encountered an error: code={code}, message={harmless(message)}", err=True
            )


def _tell_log(connection: VirtualizationService, options: RunOptions) -> None:
    """What virtmgr knows of a failed start, unless `-v` has shown it already."""
    if not options["verbose"] and (tail := connection.log_tail):
        click.echo(f"virtmgr said:\n{tail}", err=True)


def _exit_code(vm: VirtualMachine) -> int | None:
    return next(
        (event.exit_code for event in vm.events() if isinstance(event, PayloadFinished)), None
    )


def print_line(text: str) -> None:
    """To standard output at once: the guest writes there too."""
    click.echo(text)
    flush_output()
