"""`vm run-app` and `vm run-microdroid`: a payload from a source or an APK."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import click

from avf.cli.app_files import check_extra_apks, prepared_files
from avf.cli.app_source import App, opened_app
from avf.cli.app_store import kept_vm
from avf.cli.completion import PayloadName, SourceFile
from avf.cli.detach import detach_option
from avf.cli.empty_payload import EMPTY_PAYLOAD_APK, EMPTY_PAYLOAD_NAME, find_or_build
from avf.cli.files import make_idsig
from avf.cli.invocation import PayloadCommand, environment, payload_arguments
from avf.cli.options import AppOptions, RunOptions, app_options, service, service_begun
from avf.cli.paths import FILE, FOLDER
from avf.cli.run import Outcome, run_vm
from avf.cli.tell import SourceTeller, Teller, print_line, print_note
from avf.cli.text import CliError, quoted
from avf.client import AppConfig, CpuTopology, DebugLevel, VirtualizationService

_EXAMPLES = """\
\b
Examples:
  vm run-app hello.py -- --verbose input.txt
  vm run-app ./program --env GREETING=hello --timeout 60
  vm run-app my-project --name counter --storage-size 64M
  vm run-app --detach server.py
  vm run-app app.apk --payload-binary-name libhello.so --debug full
"""


@click.command("run-app", cls=PayloadCommand, epilog=_EXAMPLES)
@click.argument("source", type=SourceFile())
@click.argument("idsig", type=FILE, required=False)
@click.argument("instance", type=FILE, required=False)
@click.option(
    "--payload-binary-name",
    "--payload_path",
    "binary",
    type=PayloadName(),
    metavar="NAME",
    help="The payload's file in the APK, such as libhello.so.",
)
@click.option(
    "--config-path", metavar="PATH", help="The JSON file in the APK that describes the payload."
)
@click.option(
    "--extra-apk",
    "extra_apks",
    type=FILE,
    multiple=True,
    metavar="APK",
    help="A further APK, which the payload finds at /mnt/extra-apk/0, 1, ...; may be repeated.",
)
@click.option("--extra-idsig", "extra_idsigs", type=FILE, multiple=True,
              help="Where the idsig of an extra APK goes; once for each that the configuration names, and not needed"
              " for --extra-apk.")  # fmt: skip
@detach_option
@app_options(
    debug="none for an APK, else full",
    name="What to call the VM; without INSTANCE it is then kept.",
)
def run_app(
    source: Path,
    idsig: Path | None,
    instance: Path | None,
    binary: str | None,
    config_path: str | None,
    extra_apks: tuple[Path, ...],
    extra_idsigs: tuple[Path, ...],
    **options: Unpack[AppOptions],
) -> int:
    """Run SOURCE in a VM and give it the ARGUMENTs.

    SOURCE is a Python script, a script with a #! line, an ELF program or library, C or C++ source, or a folder with
    one of them. An APK is made of it and signed with your debug key. SOURCE can also be a signed APK; then an option
    names its payload.

    For an APK, IDSIG is brought up to date. INSTANCE and the storage are made if they are missing. Without them the
    VM gets files that are removed afterwards, so each run has an identity of its own.

    With --name and without INSTANCE, the VM is kept: `vm start NAME`, and the next run of the same payload under that
    name, have the same secrets and the same storage. With --forkable nothing is kept, and `vm clone` can copy the VM
    while it runs.
    """
    forkable = options["forkable"]
    _check_storage(options, kept=options["name"] is not None and idsig is None and not forkable)
    _check_forkable(options, instance)
    with (
        service_begun(options["image"], options["verbose"]) as connected,
        opened_app(source, idsig, instance, binary, config_path) as app,
    ):
        named = check_extra_apks(app, extra_apks, extra_idsigs)
        if options["name"] is not None and idsig is None and not forkable:
            return _run_kept(connected, app, named, options)
        _note_lost_storage(options, instance)
        with _work_dir(idsig, instance) as (idsig, instance):
            connection = connected()
            for extra_apk, extra_idsig in zip(named, extra_idsigs, strict=False):
                make_idsig(connection, extra_apk, extra_idsig)
            config = replace(
                _app_config(app, idsig, instance, options),
                extra_apks=extra_apks,
                extra_idsigs=extra_idsigs,
            )
            prepared_files(connection, app.apk, idsig, instance, options)
            outcome = run_vm(
                connection, config, describe(app), options, teller_for(app, config, options)
            )
    return _exit_status(outcome, options, default=app.is_source)


def _check_storage(options: AppOptions, *, kept: bool) -> None:
    """Raises CliError for a size of nothing: only a VM that is kept has storage of its own."""
    if options["storage_size"] and options["storage"] is None and not kept:
        raise CliError(
            "--storage-size is of no use without --storage or --name",
            "--storage FILE names the file; --name keeps the VM and its storage",
        )


def _note_lost_storage(options: AppOptions, instance: Path | None) -> None:
    """Storage opens only with the instance image that it was made with."""
    if options["storage"] is not None and instance is None:
        print_note(
            f"{options['storage']} can be opened in this run only, for its instance is not kept: give INSTANCE, or let"
            " --name keep the VM"
        )


def _check_forkable(options: AppOptions, instance: Path | None) -> None:
    """Raises CliError for what a VM that may be copied cannot have."""
    if options["forkable"] and (instance is not None or options["storage"] is not None):
        raise CliError(
            "--forkable excludes INSTANCE and --storage: two VMs cannot share what is kept",
            "leave them out; such a VM keeps nothing",
        )


def _run_kept(
    connected: Callable[[], VirtualizationService],
    app: App,
    extra_apks: tuple[Path, ...] | list[Path],
    options: AppOptions,
) -> int:
    connection = connected()
    with kept_vm(connection, app, options, extra_apks) as kept:
        config = replace(
            kept,
            task_profiles=options["task_profiles"],
            gdb=options["gdb"] is not None,
            gdb_port=options["gdb"] or 0,
            args=payload_arguments(),
            env=environment(options["env"]),
        )
        outcome = run_vm(
            connection, config, describe(app), options, teller_for(app, config, options)
        )
    return _exit_status(outcome, options, default=app.is_source)


@click.command("run-microdroid", epilog="Example:  vm run-microdroid --work-dir guest")
@click.option(
    "--work-dir", type=FOLDER, help="Where the VM's files are kept.  [default: a new folder]"
)
@app_options(debug="full", name="What to call the VM.  [default: VmRunMicrodroid]", kernel_log=True)
def run_microdroid(work_dir: Path | None, **options: Unpack[AppOptions]) -> int:
    """Run a VM whose payload says that it is ready and then waits: a guest to look around in."""
    _check_storage(options, kept=False)
    say = print_note if options["as_json"] else print_line
    if work_dir is None:
        work_dir = Path(tempfile.mkdtemp(prefix="avf-microdroid-"))
        say(f"creating work dir {work_dir}")
    else:
        work_dir.mkdir(parents=True, exist_ok=True)
    apk = find_or_build(work_dir / EMPTY_PAYLOAD_APK, options["image"])
    say(f"found path {apk}")
    idsig, instance = work_dir / "apk.idsig", work_dir / "instance.img"
    say(f"apk.idsig path: {idsig}")
    say(f"instance.img path: {instance}")
    options["name"] = options["name"] or "VmRunMicrodroid"
    options["debug"] = options["debug"] or "full"
    app = App(apk, EMPTY_PAYLOAD_NAME, None)
    config = _app_config(app, idsig, instance, options)
    with service(options["image"], options["verbose"]) as connection:
        prepared_files(connection, apk, idsig, instance, options)
        return _exit_status(
            run_vm(connection, config, describe(app), options), options, default=False
        )


def _app_config(app: App, idsig: Path, instance: Path, options: AppOptions) -> AppConfig:
    debug = options["debug"] or ("full" if app.is_source else "none")
    return AppConfig(
        name=options["name"] or app.label,
        apk=app.apk,
        idsig=idsig,
        instance_image=None if options["forkable"] else instance,
        encrypted_storage_image=options["storage"],
        payload_binary_name=app.binary,
        config_path=app.config_path,
        debug_level=DebugLevel.__members__[debug.upper()],
        protected=options["protected"],
        memory_mib=options["mem"],
        cpu_topology=CpuTopology[options["cpu_topology"].upper()],
        task_profiles=options["task_profiles"],
        gdb=options["gdb"] is not None,
        gdb_port=options["gdb"] or 0,
        args=payload_arguments(),
        env=environment(options["env"]),
        fresh=options["fresh"],
        forkable=options["forkable"],
    )


def teller_for(app: App, config: AppConfig, options: RunOptions) -> Teller | None:
    """A source's run tells what is of use to the source's author; an APK's tells what Android's does."""
    if options["as_json"] or not (app.is_source or options.get("detach")):
        return None
    shown = bool(options.get("kernel_log")) and options["console"] is None
    debuggable = config.debug_level != DebugLevel.NONE
    return SourceTeller(console_was_shown=shown, debuggable=debuggable)


def _exit_status(outcome: Outcome, options: AppOptions, *, default: bool) -> int:
    wanted = default if options["payload_status"] is None else options["payload_status"]
    return outcome.payload_status if wanted else outcome.status


def describe(app: App) -> str:
    if app.is_source:
        return app.description
    if app.config_path is not None:
        return f"{quoted(app.apk)}!ConfigPath({quoted(app.config_path)})"
    config = f"VirtualMachinePayloadConfig {{ payloadBinaryName: {quoted(app.binary or '')} }}"
    return f"{quoted(app.apk)}!PayloadConfig({config})"


@contextmanager
def _work_dir(idsig: Path | None, instance: Path | None) -> Iterator[tuple[Path, Path]]:
    """The two files, in a folder that is removed in the end as far as they were not given."""
    if idsig is not None and instance is not None:
        yield idsig, instance
        return
    with tempfile.TemporaryDirectory(prefix="avf-") as folder:
        yield idsig or Path(folder, "apk.idsig"), instance or Path(folder, "instance.img")
