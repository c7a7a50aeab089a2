"""The `vm` command itself: finds the sub-command's module when it is used, and turns errors into text."""

import _thread
import importlib
import os
import signal
import sys
import time
import warnings
from types import FrameType
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from avf import settings
from avf.cli.options import flush_output
from avf.cli.text import CliError, error_chain, error_text
from avf.printable import printable, printable_lines

_COMMANDS = {
    "run-app": ("avf.cli.run_app:run_app", "Run a script, a program, a folder or a signed APK in a VM of its own."),
    "run-microdroid": ("avf.cli.run_app:run_microdroid", "Run a VM with a payload that does nothing."),
    "run": ("avf.cli.run:run", "Run a VM described by a JSON file."),
    "start": ("avf.cli.kept:start", "Run a VM that is kept."),
    "ls": ("avf.cli.kept:ls", "Show your VMs: those that run, and those that are kept."),
    "rm": ("avf.cli.kept:rm", "Remove VMs that are kept."),
    "new": ("avf.cli.project:new", "Make a project: a payload to begin with."),
    "build": ("avf.cli.project:build_command", "Make a signed APK of a source."),
    "keygen": ("avf.cli.project:keygen", "Make a key that signs APKs."),
    "list": ("avf.cli.host:list_vms", "List the VMs of this host."),
    "top": ("avf.cli.top:top", "Show your VMs, what they use and what they say."),
    "report": ("avf.cli.report:report", "Write a page about a VM: its start, what it used, what proves it, its end."),
    "clone": ("avf.cli.clone:clone", "Copy a VM while it runs, and run the copy."),
    "stop": ("avf.cli.control:stop", "Kill a VM."),
    "console": ("avf.cli.control:console", "Show the console of a VM, and type into it."),
    "logs": ("avf.cli.control:logs", "Show the log of a VM."),
    "shell": ("avf.cli.shell:shell", "Run a command inside a guest, or a shell."),
    "push": ("avf.cli.shell:push", "Copy files and folders into a guest."),
    "pull": ("avf.cli.shell:pull", "Copy files and folders out of a guest."),
    "connect": ("avf.cli.connect:connect", "Connect standard input and output to a port of a guest."),
    "forward": ("avf.cli.connect:forward", "Pass connections on between the host and a guest."),
    "tombstones": ("avf.cli.tombstones:tombstones", "List and show what crashing guests have left."),
    "listen": ("avf.cli.listen:listen", "Write out what guests send to a vsock port of the host."),
    "info": ("avf.cli.host:info", "Say in three lines which VMs this host supports."),
    "doctor": ("avf.cli.doctor:doctor", "Check what this host can do, with a fix for each lack."),
    "pool": ("avf.cli.pool:pool", "Keep clones of booted guests waiting for the VMs of a command."),
    "template": ("avf.cli.template:template", "Make, list and remove templates of booted guests."),
    "create-idsig": ("avf.cli.files:create_idsig", "Make or update the idsig of an APK."),
    "create-partition": ("avf.cli.files:create_partition", "Make an empty partition image."),
    "forget-instance": ("avf.cli.files:forget_instance", "Have the host forget an instance, so that it may go back."),
    "completion": ("avf.cli.completion:completion", "Make a shell complete the arguments of vm."),
}  # fmt: skip

_WITHOUT_SETTINGS = ("completion", "doctor")
"""Commands that need no setting, or look at all of them themselves."""
_LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_SIGNAL_SECONDS = 1.0
"""In which a further signal counts as one with the first."""


class _Group(click.Group):
    """Knows its commands by name and one line each, so that `vm --help` loads none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            if meant := difflib.get_close_matches(args[0].replace("_", "-"), _COMMANDS, 1, 0.5):
                error.message = f"No such command {args[0]!r}. Did you mean {meant[0]!r}?"  # type: ignore[misc]
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=line)
            for name, (_, line) in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="avf-linux", prog_name="vm")
@click.pass_context
def vm(ctx: click.Context) -> None:
    """Run payloads in virtual machines."""
    warnings.simplefilter("ignore", settings.SettingWarning)  # what follows says it
    if ctx.invoked_subcommand in _WITHOUT_SETTINGS:
        return
    try:
        settings.check()
    except settings.SettingError as error:
        raise CliError(str(error)) from None
    for warning in settings.unknown():
        click.echo(printable(f"Warning: {warning}"), err=True)


def main() -> NoReturn:
    """Runs the command line of this process and exits: 0, 1 for an error, 2 for wrong usage, 128+N for a signal."""
    for number in _LEAVING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _leave)
    sys.exit(_run())


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Unwinds the stack, so that everything is ended and removed as after an error.

    A further signal ends the process at once, but not one that comes with the first: timeout(1) sends its own twice.
    """
    for each in _LEAVING:
        if signal.getsignal(each) is _leave:
            signal.signal(each, _leave_again)
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(read_end, True)
    signal.set_wakeup_fd(write_end)
    _thread.start_new_thread(_await_another, (read_end, time.monotonic()))
    sys.exit(128 + number)


def _leave_again(_number: int, _frame: FrameType | None) -> None:
    """What comes late of the signals that came with the first. Python may call this long after a signal has come."""


def _await_another(numbers: int, left: float) -> None:
    """`numbers`: where signals are told as they come."""
    while True:
        number = os.read(numbers, 1)[0]
        if number in _LEAVING and time.monotonic() - left > _SAME_SIGNAL_SECONDS:
            os._exit(128 + number)


def _run() -> int:
    try:
        result = vm.main(prog_name="vm", standalone_mode=False)
        flush_output()
    except click.ClickException as error:
        # a word of the command line may be the name of a file that others have chosen
        error.message = printable(error.message)  # type: ignore[misc]
        error.show()
        return error.exit_code
    except click.Abort:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        sys.stdout = None  # nobody reads any more, and the interpreter must not try again
        return 1
    except Exception as error:  # noqa: BLE001 - what nobody expects is told, too
        _tell(error)
        return 1
    return result if isinstance(result, int) else 0


def _tell(error: Exception) -> None:
    """What failed, why and what to try; the traceback only for those who asked for it."""
    if _wants_traceback():
        import traceback

        click.echo(printable_lines("".join(traceback.format_exception(error))), err=True, nl=False)
    if _is_expected(error):
        click.echo(f"Error: {error_text(error)}", err=True)
        return
    name = type(error).__name__
    click.echo(f"Error: vm has a defect: {name}\n  because: {error_chain(error)}", err=True)
    click.echo("  try: AVF_LOG=debug shows where, which belongs into a report of it", err=True)


def _wants_traceback() -> bool:
    try:
        debugging = settings.log_level() == "debug"
    except settings.SettingError:
        debugging = False
    return debugging or not {"-v", "--verbose"}.isdisjoint(sys.argv)


def _is_expected(error: Exception) -> bool:
    """Whether `error` is about the world; anything else is a mistake of ours."""
    from avf.binder import BinderError
    from avf.client import ClientError

    return isinstance(error, (CliError, ClientError, BinderError, OSError))
