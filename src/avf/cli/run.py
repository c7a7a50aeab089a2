"""`vm run`, and how any VM is run in the foreground."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TextIO, Unpack

import click

from avf.binder import BinderError
from avf.cli.detach import Leaver, leaver
from avf.cli.options import (
    RunOptions,
    flush_output,
    run_options,
    service,
    standard_stream,
    typed_input,
)
from avf.cli.paths import PATH
from avf.cli.payload_output import copied_output
from avf.cli.records import Records
from avf.cli.tell import JsonTeller, Teller, TextTeller, print_line, print_note
from avf.cli.text import CliError, NotCreated, quoted
from avf.client import (
    AppConfig,
    CpuTopology,
    DeathReason,
    DeathReport,
    DebugLevel,
    Event,
    PayloadError,
    PayloadFinished,
    PayloadReady,
    PayloadStarted,
    RawConfig,
    VirtualizationService,
    VirtualMachine,
    load_raw_config,
    warnings_in,
)
from avf.printable import printable_lines

TIMED_OUT = 124
"""The exit status when the time limit was over, as of timeout(1)."""
_WAKE_SECONDS = 1.0
"""Between two looks at signals."""
_STOPPED = (DeathReason.SHUTDOWN, DeathReason.KILLED, DeathReason.REBOOT)
"""How a VM ends that did nothing wrong: by itself, or because somebody wanted it."""


class Outputs(NamedTuple):
    """Where a VM writes to, for `create_vm`."""

    console: Path | int | None
    log: Path | int | None
    errors: int | None = None
    """The payload's standard error; None for the log."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a VM ended, as far as an exit status can tell."""

    reason: DeathReason | None
    is_app: bool
    started: bool
    """Whether a payload was."""
    payload: int | None
    """The exit code of the payload; None if it did not finish."""

    @property
    def status(self) -> int:
        """Of a command that does not pass the payload's on: 1 if the VM did not get as far as it should."""
        if self.reason == DeathReason.TIMED_OUT:
            return TIMED_OUT
        if self.payload is not None:
            return 0
        has_run = self.started or not self.is_app
        return 0 if has_run and self.reason in _STOPPED else 1

    @property
    def payload_status(self) -> int:
        """The payload's exit code; 128 and its number for a signal; 1 if it did not finish."""
        if self.reason == DeathReason.TIMED_OUT:
            return TIMED_OUT
        return 1 if self.payload is None else self.payload & 0xFF


@click.command(epilog="Example:  vm run guest.json --console console.txt")
@click.argument("config", type=PATH)
@click.option("--name", default="VmRun", show_default=True, help="What to call the VM.")
@run_options
def run(config: Path, name: str, **options: Unpack[RunOptions]) -> int:
    """Run the VM that the JSON file CONFIG describes.

    Its keys are kernel, initrd, params, bootloader, disks, protected, memory_mib and platform_version; paths are
    relative to the file.
    """
    _refuse_payloads(config)
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


def _refuse_payloads(path: Path) -> None:
    """A program in the place of a description is a misunderstanding that is worth a word."""
    from avf.project import ProjectError, kind_of

    try:
        kind = kind_of(path)
    except ProjectError:
        return
    raise CliError(
        f"{path} describes no VM; it is a payload ({kind.value})",
        f"to run it in a VM, type `vm run-app {path}`",
    )


def run_vm(
    connection: VirtualizationService,
    config: AppConfig | RawConfig,
    description: str,
    options: RunOptions,
    teller: Teller | None = None,
) -> Outcome:
    """Creates and starts a VM and tells of it until it ends."""
    teller = teller or _teller(options)
    is_app = isinstance(config, AppConfig)
    left_by = leaver(options)
    with ExitStack() as stack:
        outputs = stack.enter_context(
            outputs_of(
                options,
                is_app=is_app,
                shown=left_by is None,
                errors_apart=isinstance(config, AppConfig) and _can_keep_errors_apart(config),
            )
        )
        typed = stack.enter_context(typed_input(options["console_in"]))
        vm = stack.enter_context(_create(connection, config, outputs, typed))

        def created() -> None:
            teller.created(vm, description)
            _tell_more(vm, config, options)
            vm.add_listener(teller.event)
            if left_by is not None:
                _leave_when_started(vm, left_by, options)

        follow(vm, options, teller, created, stack)
        if vm.death_reason == DeathReason.START_FAILED:
            _tell_log(connection, options)
        return outcome_of(vm, is_app=is_app)


def follow(
    vm: VirtualMachine,
    options: RunOptions,
    teller: Teller,
    started: Callable[[], None],
    stack: ExitStack,
) -> None:
    """Starts a VM and tells of it until it ends; `started` is called in between. `stack` has what the VM writes to."""
    records = Records(options)
    with records.of_start(vm):
        _start(vm, options["timeout"])
    report = None
    try:
        started()
        reason = _wait_for_death(vm)
        report = vm.death_report
        _tell_lost(report)
        if reason == DeathReason.SHUTDOWN:
            report = None
    finally:
        records.take(vm)
        vm.close()
        stack.pop_all().close()  # what the guest wrote comes before the word that it ended
        teller.ended(vm.death_reason, report)
        records.leave()


def _wait_for_death(vm: VirtualMachine) -> DeathReason:
    """Wakes now and then, for Python looks only then at a signal that came just before it began to wait for a lock."""
    while (reason := vm.wait_for_death(_WAKE_SECONDS)) is None:
        pass
    return reason


def _can_keep_errors_apart(config: AppConfig) -> bool:
    return config.debug_level != DebugLevel.NONE and not config.forkable


@contextmanager
def outputs_of(
    options: RunOptions, *, is_app: bool, shown: bool = True, errors_apart: bool = False
) -> Iterator[Outputs]:
    """Where console and log go: to the files that are named; of a payload only its own output is shown, unless the
    kernel's is asked for, too. Nothing is if not `shown`: `vm logs` has it.

    `errors_apart`: the payload's standard error goes to ours, if that is another file than our standard output. If both
    are one, as they are at a terminal, both go one way, so that they stay in order.
    """
    console, log = options["console"], options["log"]
    flush_output()
    stream = sys.stderr if options["as_json"] else sys.stdout
    if options.get("kernel_log") or not is_app:
        both = standard_stream(stream)
        yield Outputs(both if console is None else console, both if log is None else log)
        return
    with ExitStack() as stack:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        stack.callback(os.close, nowhere)
        payload: Path | int | None = log
        errors = None
        if shown and log is None:
            payload = stack.enter_context(copied_output(stream))
            if errors_apart:
                errors = _other_stream(sys.stderr, stream, nowhere)
        yield Outputs(
            nowhere if console is None else console,
            nowhere if payload is None else payload,
            errors,
        )


def _other_stream(stream: TextIO | None, known: TextIO | None, nowhere: int) -> int | None:
    """The descriptor of `stream`, `nowhere` if it is closed; None if `known` writes to the same file."""
    fd, known_fd = standard_stream(stream), standard_stream(known)
    if fd is None:
        return nowhere
    return None if known_fd is not None and os.path.sameopenfile(fd, known_fd) else fd


def _leave_when_started(vm: VirtualMachine, left_by: Leaver, options: RunOptions) -> None:
    def listen(event: Event) -> None:
        if isinstance(event, PayloadStarted):
            if not options["as_json"]:
                print_line(str(vm.cid))
            left_by.leave()

    vm.add_listener(listen)


def _tell_more(vm: VirtualMachine, config: AppConfig | RawConfig, options: RunOptions) -> None:
    """What its user has to know beside: how to debug it, and that nothing of it will be seen."""
    if options["gdb"] is not None and (path := vm.debugger_socket) is not None:
        print_note(f"waiting for a debugger; in gdb: target remote {path}")
    if isinstance(config, AppConfig) and config.debug_level == DebugLevel.NONE:
        print_note(
            "the payload's output is not shown: the VM is not debuggable (--debug full makes it so)"
        )


def _teller(options: RunOptions) -> Teller:
    if options["as_json"]:
        return JsonTeller()
    shown = options.get("kernel_log", True) and options["console"] is None
    return TextTeller(console_was_shown=shown)


def _create(
    connection: VirtualizationService,
    config: AppConfig | RawConfig,
    outputs: Outputs,
    typed: Path | int | None,
) -> VirtualMachine:
    try:
        return connection.create_vm(
            config,
            console=outputs.console,
            console_in=typed,
            log=outputs.log,
            payload_stderr=outputs.errors,
        )
    except BinderError as error:
        raise NotCreated("Failed to create VM") from error


def _start(vm: VirtualMachine, timeout: float | None) -> None:
    try:
        vm.start(timeout=timeout)
    except BinderError as error:
        raise CliError("Failed to start VM") from error


def _tell_lost(report: DeathReport | None) -> None:
    for text in report.lost_output if report is not None else ():
        print_note(f"Warning: output of the VM is lost: {text}")


def _tell_log(connection: VirtualizationService, options: RunOptions) -> None:
    """What virtmgr said that is not everyday life, unless `-v` has shown it already."""
    if not options["verbose"] and (tail := warnings_in(connection.log_tail)):
        click.echo(f"virtmgr said:\n{printable_lines(tail)}", err=True)


def outcome_of(vm: VirtualMachine, *, is_app: bool) -> Outcome:
    """The exit code as a shell has it: of a payload that a signal ended, 128 and its number."""
    started, code = False, None
    for event in vm.events():
        if isinstance(event, PayloadStarted | PayloadReady):
            started = True
        elif isinstance(event, PayloadFinished):
            code = event.exit_code
        elif isinstance(event, PayloadError) and event.signal is not None:
            code = 128 + event.signal
    return Outcome(vm.death_reason, is_app, started or code is not None, code)
