"""The files that a payload's VM needs beside its APK: found, checked, made."""

import json
from pathlib import Path

from avf.cli.app_source import App
from avf.cli.files import grow_store, make_idsig, make_missing
from avf.cli.options import DEFAULT_STORAGE_SIZE, AppOptions
from avf.cli.text import CliError
from avf.client import PartitionType, VirtualizationService

INSTANCE_SIZE = 10 << 20
_MAX_CONFIG_SIZE = 1 << 20


def check_extra_apks(
    app: App, extra_apks: tuple[Path, ...], extra_idsigs: tuple[Path, ...]
) -> tuple[Path, ...] | list[Path]:
    """The extra APKs, those that the APK's own configuration names included. Raises CliError."""
    if app.config_path is not None and extra_apks:
        raise CliError("--extra-apk and --config-path exclude each other: the file names its own")
    named = extra_apks or _extra_apks(app.apk, app.config_path)
    if len(named) != len(extra_idsigs) and (extra_idsigs or not extra_apks):
        raise CliError(
            f"Found {len(named)} extra apks, but there are {len(extra_idsigs)} extra idsigs"
        )
    return named


def prepared_files(
    connection: VirtualizationService, apk: Path, idsig: Path, instance: Path, options: AppOptions
) -> None:
    """Brings the idsig up to date and makes the images that are missing."""
    make_idsig(connection, apk, idsig)
    if not options["forkable"]:
        make_missing(connection, instance, INSTANCE_SIZE, PartitionType.ANDROID_VM_INSTANCE)
    storage, size = options["storage"], options["storage_size"]
    if storage is not None:
        kind = PartitionType.ENCRYPTEDSTORE
        if not make_missing(connection, storage, size or DEFAULT_STORAGE_SIZE, kind) and size:
            grow_store(storage, size)


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
