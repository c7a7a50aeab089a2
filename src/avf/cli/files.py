"""`vm create-idsig` and `vm create-partition`, and how the run commands make such files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from avf.binder import BinderError
from avf.cli.completion import SourceFile
from avf.cli.options import service
from avf.cli.paths import FILE
from avf.cli.progress import bytes_read_by, progress
from avf.cli.sizes import Size
from avf.cli.text import CliError
from avf.client import ClientError, PartitionType, VirtualizationService, grow_storage
from avf.overwriting import Kind, foreign

_TYPES = {
    "raw": PartitionType.RAW,
    "instance": PartitionType.ANDROID_VM_INSTANCE,
    "encryptedstore": PartitionType.ENCRYPTEDSTORE,
}


@click.command("create-idsig", epilog="Example:  vm create-idsig app.apk app.idsig")
@click.argument("apk", type=SourceFile(apks_only=True))
@click.argument("path", type=FILE)
def create_idsig(apk: Path, path: Path) -> None:
    """Make the idsig (APK Signature Scheme v4) of APK in the file PATH, or bring it up to date."""
    with service() as connection:
        make_idsig(connection, apk, path, hint=None)


@click.command(
    "create-partition", epilog="Example:  vm create-partition store.img 64M -t encryptedstore"
)
@click.argument("path", type=FILE)
@click.argument("size", type=Size(minimum=1))
@click.option(
    "-t",
    "--type",
    "kind",
    type=click.Choice(list(_TYPES)),
    default="raw",
    show_default=True,
    help="What the guest will find in it.",
)
def create_partition(path: Path, size: int, kind: str) -> None:
    """Make a partition image of SIZE bytes (or as in 10M), rounded up to 4096, in the new file PATH."""  # fmt: skip
    with service() as connection:
        make_partition(connection, path, size, _TYPES[kind])


@click.command("forget-instance", epilog="Example:  vm forget-instance instance.img")
@click.argument("instance", type=FILE)
def forget_instance(instance: Path) -> None:
    """Have the host forget what it remembers of the instance whose image INSTANCE is.

    An old copy of the image is refused once a newer version of the payload has run. Forget the instance before you go
    back to such a copy on purpose, and when you delete it.
    """
    with service() as connection:
        connection.forget_instance(instance)


def make_idsig(
    connection: VirtualizationService,
    apk: Path,
    idsig: Path,
    *,
    hint: str | None = "the payload's arguments come after --",
) -> None:
    """Brings `idsig` up to date; a new file is removed again if that fails. `hint`: for a file that is no idsig."""
    if not apk.exists():
        raise CliError(f"Failed to open {apk}: No such file or directory")
    done = bytes_read_by(connection.pid)
    with (
        _opened(idsig, os.O_CREAT) as file,
        progress(f"Making the idsig of {apk.name}", apk.stat().st_size, done),
    ):
        try:
            connection.create_or_update_idsig_file(apk, file)
        except BinderError as error:
            foreign_file = foreign(file, Kind.IDSIG) is not None
            raise CliError(
                f"Failed to make the idsig of {apk}", hint if foreign_file else None
            ) from error


def make_partition(
    connection: VirtualizationService, path: Path, size: int, kind: PartitionType
) -> None:
    """Makes a new file; it is removed again if that fails."""
    with _opened(path, os.O_CREAT | os.O_EXCL) as file:
        try:
            connection.initialize_writable_partition(file, size, kind)
        except BinderError as error:
            raise CliError(f"Failed to make the partition {path}") from error


def make_missing(
    connection: VirtualizationService, path: Path, size: int, kind: PartitionType
) -> bool:
    """Makes a partition image where there is none, or an empty file; False if there is one."""
    if not path.exists():
        make_partition(connection, path, size, kind)
    elif path.is_file() and not path.stat().st_size:
        try:
            connection.initialize_writable_partition(path, size, kind)
        except BinderError as error:
            raise CliError(f"Failed to make the partition {path}") from error
    else:
        return False
    return True


def grow_store(path: Path, size: int) -> None:
    """Makes an encrypted store larger, for the guest to notice; it cannot be made smaller."""
    try:
        grow_storage(path, size)
    except ClientError as error:
        raise CliError(f"--storage-size: {error}") from error


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """`path` open for reading and writing; removed after an error if it is new."""
    existed = path.exists()
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o666)
    except OSError as error:
        raise CliError(f"Failed to create {path}: {error.strerror}") from error
    try:
        yield fd
    except BaseException:
        if not existed:
            path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
