"""Options that several sub-commands share, and what they mean."""

import fcntl
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TextIO, TypedDict, TypeVar

import click

from avf.cli.invocation import env_option
from avf.cli.paths import FILE, FOLDER, PathType
from avf.cli.sizes import Number, Size

if TYPE_CHECKING:
    from avf.client import VirtualizationService

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_STORAGE_SIZE = 10 << 20


class GdbPort(click.IntRange):
    """A TCP port, or "socket" for none: 0."""

    name = "port"

    def __init__(self) -> None:
        super().__init__(1, 65535)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "socket":
            return 0
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(
                f"{value} is no port from 1 to 65535; without one, --gdb comes last.", param, ctx
            )


class RunOptions(TypedDict):
    """What the options of `run_options` were."""

    cpu_topology: str
    task_profiles: tuple[str, ...]
    console: Path | None
    console_in: str | None
    """A path, or "-" for standard input."""
    timeout: float | None
    log: Path | None
    gdb: int | None
    """The TCP port, 0 for none; None: no debugger."""
    image: Path | None
    as_json: bool
    timeline: bool
    report: Path | None
    otlp: Path | None
    verbose: bool
    detach: NotRequired[bool]
    kernel_log: NotRequired[bool]
    """Of a payload's VM: whether what its kernel and its agent say is shown, too."""


class AppOptions(RunOptions):
    """What the options of `app_options` were."""

    name: str | None
    """None: not told."""
    storage: Path | None
    storage_size: int | None
    debug: str | None
    """None: not told."""
    protected: bool
    mem: int | None
    fresh: bool
    forkable: bool
    payload_status: bool | None
    """None: not told."""
    env: tuple[tuple[str, str], ...]


def run_options(command: F) -> F:
    """Options of everything that runs a VM."""
    for option in reversed(
        (
            click.option("--cpu-topology", type=click.Choice(["one_cpu", "match_host"]), default="one_cpu",
                         show_default=True, help="How many CPUs the VM gets."),
            click.option("--task-profiles", multiple=True, metavar="NAME",
                         help="Limits of the VM's process, by their name in task_profiles.toml; may be repeated."),
            click.option("--console", type=FILE, help="Where the console goes.  [default: standard output; of a"
                         " payload's VM with --kernel-log only]"),
            click.option("--console-in", type=PathType(dir_okay=False, allow_dash=True), metavar="FILE",
                         help="What is typed into the console; - is standard input."),
            click.option("--timeout", type=Number(min=0, min_open=True), metavar="SECONDS",
                         help="Kill the VM when its payload has run that long, and exit with status 124."),
            click.option("--log", type=FILE, help="Where the guest's log goes, the payload's output in it."
                         "  [default: standard output; of a payload's VM without the agent's lines]"),
            click.option("--gdb", type=GdbPort(), is_flag=False, flag_value="socket", metavar="[PORT]",
                         help="Wait for a debugger at a socket in the VM's directory, and on that TCP port of"
                         " localhost if there is one. Write it last, or as --gdb=PORT."),
            click.option("--image", type=FOLDER, help="Folder of the guest image (microdroid.json)."),
            click.option("--json", "as_json", is_flag=True,
                         help="Tell events as JSON lines; console and log go to standard error."),
            click.option("--timeline", is_flag=True, help="Show in the end where the time of the start went."),
            click.option("--report", type=FILE, help="Where a page about the VM goes in the end, as of `vm report`."),
            click.option("--otlp", type=FILE, help="Where the spans of the start go in the end: OpenTelemetry's JSON."),
            click.option("-v", "--verbose", is_flag=True, help="Show what virtmgr logs."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def app_options(*, debug: str, name: str, kernel_log: bool = False) -> Callable[[F], F]:
    """Options of everything that runs a payload. `debug` and `name` say in the help what their defaults are."""

    def add(command: F) -> F:
        for option in reversed(
            (
                click.option("--name", metavar="NAME", help=name),
                env_option,
                click.option("--storage", type=FILE, help="Encrypted storage, made if it is missing."),
                click.option("--storage-size", type=Size(minimum=1), metavar="SIZE",
                             help="How big to make it; storage that is smaller is made larger."
                             f"  [default: {DEFAULT_STORAGE_SIZE >> 20}M for a new one]"),
                click.option("--debug", type=click.Choice(["none", "full"]),
                             help="Whether the VM can be looked into, and shows what its payload writes."
                             f"  [default: {debug}]"),
                click.option("--kernel-log", is_flag=True, default=kernel_log, hidden=kernel_log,
                             help="Show what the guest's kernel and agent say as well."),
                click.option("-p", "--protected", is_flag=True, help="Run a protected VM."),
                click.option("-m", "--mem", type=Size("m", minimum=1, maximum=(1 << 31) - 1), metavar="SIZE",
                             help="Memory, in MiB or as in 512M and 2G.  [default: what the image asks for]"),
                click.option("--fresh", is_flag=True,
                             help="Boot the guest by itself even where a clone would be quicker."),
                click.option("--forkable", is_flag=True,
                             help="Keep nothing, and let `vm clone` copy the VM while it runs."),
                click.option("--payload-status/--no-payload-status", default=None,
                             help="Exit with the payload's exit code, 128+N if signal N ended it, or 1 if it did"
                             " not finish.  [default: only for what is not an APK]"),
            )
        ):  # fmt: skip
            command = option(command)
        return run_options(command)

    return add


@contextmanager
def service(image: Path | None = None, verbose: bool = False) -> Iterator["VirtualizationService"]:
    """A connection to one's own virtmgr for the time of a command."""
    with service_begun(image, verbose) as connected:
        yield connected()


@contextmanager
def service_begun(
    image: Path | None = None, verbose: bool = False
) -> Iterator[Callable[[], "VirtualizationService"]]:
    """A connection for a command that has something else to do while virtmgr starts. The function that is yielded waits
    for it, and raises what `avf.client.connect` raises.
    """
    from avf.client import connect

    if image is not None:
        os.environ["AVF_IMAGE_DIR"] = str(image.absolute())
        os.environ.pop("AVF_POOL", None)  # its virtmgr has an image of its own
    begun = _Begun(lambda: connect(forward_log=verbose))
    try:
        yield begun.result
    finally:
        begun.close()


class _Begun:
    """A connection that a thread makes."""

    def __init__(self, connect: "Callable[[], VirtualizationService]") -> None:
        self._connect = connect
        self._made: VirtualizationService | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="connect")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._made = self._connect()
        except BaseException as error:  # noqa: BLE001  raised by whoever wants the connection
            self._error = error

    def result(self) -> "VirtualizationService":
        """Waits for it. Raises what `connect` has raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._made is not None
        return self._made

    def close(self) -> None:
        """Waits for the connection, and closes it."""
        self._thread.join()
        if self._made is not None:
            self._made.close()


def standard_stream(stream: TextIO | None) -> int | None:
    """The descriptor of standard output or error, if there is one, for a VM to write to as well.

    A VMM opens a file anew, with an offset of its own: both must append, or each overwrites the other's lines.
    """
    try:
        fd = stream.fileno()  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd


@contextmanager
def typed_input(source: str | None) -> Iterator[Path | int | None]:
    """What a VM is to read for `--console-in`. A terminal is read here: it goes to those in its foreground only."""
    if source != "-":
        yield None if source is None else Path(source)
        return
    if sys.stdin is None:
        yield Path(os.devnull)
    elif not sys.stdin.isatty():
        yield sys.stdin.fileno()
    else:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            copier = threading.Thread(
                target=_copy_lines, args=(sys.stdin.fileno(), write_end), daemon=True
            )
            copier.start()
            yield read_end
        finally:
            os.close(read_end)


def _copy_lines(source: int, target: int) -> None:
    try:
        while data := os.read(source, 4096):
            while data:
                data = data[os.write(target, data) :]
    except OSError:
        pass  # nobody reads any more
    finally:
        os.close(target)


def flush_output() -> None:
    """Before something else writes there too."""
    if sys.stdout is not None:
        sys.stdout.flush()
