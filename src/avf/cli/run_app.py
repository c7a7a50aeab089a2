"""`vm run-app` and `vm run-microdroid`: a payload from an APK."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import click

from avf.cli.empty_payload import EMPTY_PAYLOAD_APK, EMPTY_PAYLOAD_NAME, find_or_build
from avf.cli.files import grow_store, make_idsig, make_missing
from avf.cli.options import (
    DEFAULT_STORAGE_SIZE,
    FILE,
    FOLDER,
    AppOptions,
    app_options,
    service,
)
from avf.cli.run import Outcome, run_vm
from avf.cli.tell import print_line, print_note
from avf.cli.text import CliError, quoted
from avf.client import AppConfig, CpuTopology, DebugLevel, PartitionType, VirtualizationService

INSTANCE_SIZE = 10 << 20
_MAX_CONFIG_SIZE = 1 << 20


@click.command("run-app")
@click.argument("apk", type=FILE)
@click.argument("idsig", type=FILE, required=False)
@click.argument("instance", type=FILE, required=False)
@click.option(
    "--payload-binary-name",
    "--payload_path",
    "binary",
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
@app_options(debug_default="none", name="VmRunApp")
def run_app(
    apk: Path,
    idsig: Path | None,
    instance: Path | None,
    binary: str | None,
    config_path: str | None,
    extra_apks: tuple[Path, ...],
    extra_idsigs: tuple[Path, ...],
    **options: Unpack[AppOptions],
) -> int:
    """Run a payload from APK in a VM.

    IDSIG is brought up to date, INSTANCE and the storage are made if they are missing. Without them the VM gets
    files that are removed afterwards, and so an identity that no other run will have.
    """
    _check_payload(binary, config_path)
    if config_path is not None and extra_apks:
        raise CliError("--extra-apk and --config-path exclude each other: the file names its own")
    named = extra_apks or _extra_apks(apk, config_path)
    if len(named) != len(extra_idsigs) and (extra_idsigs or not extra_apks):
        raise CliError(
            f"Found {len(named)} extra apks, but there are {len(extra_idsigs)} extra idsigs"
        )
    with (
        _work_dir(idsig, instance) as (idsig, instance),
        service(options["image"], options["verbose"]) as connection,
    ):
        for extra_apk, extra_idsig in zip(named, extra_idsigs, strict=False):
            make_idsig(connection, extra_apk, extra_idsig)
        config = replace(
            _app_config(apk, idsig, instance, binary, config_path, options),
            extra_apks=extra_apks,
            extra_idsigs=extra_idsigs,
        )
        _prepare(connection, apk, idsig, instance, options)
        description = _describe(apk, binary, config_path)
        return _exit_status(run_vm(connection, config, description, options), options)


@click.command("run-microdroid")
@click.option(
    "--work-dir", type=FOLDER, help="Where the VM's files are kept.  [default: a new folder]"
)
@app_options(debug_default="full", name="VmRunMicrodroid")
def run_microdroid(work_dir: Path | None, **options: Unpack[AppOptions]) -> int:
    """Run a VM whose payload says that it is ready and then waits: a guest to look around in."""
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
    config = _app_config(apk, idsig, instance, EMPTY_PAYLOAD_NAME, None, options)
    with service(options["image"], options["verbose"]) as connection:
        _prepare(connection, apk, idsig, instance, options)
        description = _describe(apk, EMPTY_PAYLOAD_NAME, None)
        return _exit_status(run_vm(connection, config, description, options), options)


def _app_config(
    apk: Path,
    idsig: Path,
    instance: Path,
    binary: str | None,
    config_path: str | None,
    options: AppOptions,
) -> AppConfig:
    return AppConfig(
        name=options["name"],
        apk=apk,
        idsig=idsig,
        instance_image=instance,
        encrypted_storage_image=options["storage"],
        payload_binary_name=binary,
        config_path=config_path,
        debug_level=DebugLevel.__members__[options["debug"].upper()],
        protected=options["protected"],
        memory_mib=options["mem"],
        cpu_topology=CpuTopology[options["cpu_topology"].upper()],
        task_profiles=options["task_profiles"],
        gdb=options["gdb"] is not None,
        gdb_port=options["gdb"] or 0,
        fresh=options["fresh"],
    )


def _prepare(
    connection: VirtualizationService, apk: Path, idsig: Path, instance: Path, options: AppOptions
) -> None:
    """Brings the idsig up to date and makes the images that are missing."""
    make_idsig(connection, apk, idsig)
    make_missing(connection, instance, INSTANCE_SIZE, PartitionType.ANDROID_VM_INSTANCE)
    storage, size = options["storage"], options["storage_size"]
    if storage is not None:
        kind = PartitionType.ENCRYPTEDSTORE
        if not make_missing(connection, storage, size or DEFAULT_STORAGE_SIZE, kind) and size:
            grow_store(storage, size)


def _exit_status(outcome: Outcome, options: AppOptions) -> int:
    if outcome.timed_out or not options["payload_status"]:
        return outcome.status
    return 1 if outcome.payload is None else outcome.payload & 0xFF


def _check_payload(binary: str | None, config_path: str | None) -> None:
    if binary is not None and config_path is not None:
        raise CliError("Only one of --config-path or --payload-binary-name can be defined")
    if binary is None and config_path is None:
        raise CliError("Either --config-path or --payload-binary-name must be defined")


def _describe(apk: Path, binary: str | None, config_path: str | None) -> str:
    if config_path is not None:
        return f"{quoted(apk)}!ConfigPath({quoted(config_path)})"
    config = f"VirtualMachinePayloadConfig {{ payloadBinaryName: {quoted(binary or '')} }}"
    return f"{quoted(apk)}!PayloadConfig({config})"


def _extra_apks(apk: Path, config_path: str | None) -> list[Path]:
    """The extra APKs that the configuration inside the APK names."""
    if config_path is None:
        return []
    from avf.apk import ApkError, read_entry

    try:
        with open(apk, "rb") as file:
            config = json.loads(read_entry(file.fileno(), config_path, limit=_MAX_CONFIG_SIZE))
        return [Path(extra["path"]) for extra in config.get("extra_apks", ())]
    except (
        *(ApkError, OSError, ValueError, KeyError),
        *(TypeError, AttributeError, RecursionError),
    ) as error:
        raise CliError(f"Couldn't read config from {config_path} in {apk}") from error


@contextmanager
def _work_dir(idsig: Path | None, instance: Path | None) -> Iterator[tuple[Path, Path]]:
    """The two files, in a folder that is removed in the end as far as they were not given."""
    if idsig is not None and instance is not None:
        yield idsig, instance
        return
    with tempfile.TemporaryDirectory(prefix="avf-") as folder:
        yield idsig or Path(folder, "apk.idsig"), instance or Path(folder, "instance.img")
