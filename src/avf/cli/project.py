"""`vm new`, `vm build` and `vm keygen`: from nothing to a signed APK."""

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from getpass import GetPassWarning
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from avf.apk import ApkError
from avf.cli.app_source import project_errors
from avf.cli.completion import SourceFile
from avf.cli.paths import FILE, PATH
from avf.cli.sizes import WholeNumber
from avf.cli.text import CliError
from avf.overwriting import Kind, foreign
from avf.printable import printable
from avf.project import TEMPLATES

if TYPE_CHECKING:
    from avf.apk import SigningKey
    from avf.project import Built, Project

_MAX_KEY = 1 << 20
_MAX_PASSWORD = 1024
_KINDS = ("ec-p256", "ec-p384", "ec-p521", "rsa-2048", "rsa-3072", "rsa-4096")
_PKCS12 = (".p12", ".pfx")
_KEY_HINT = (
    "`vm keygen FILE` makes a key; one made elsewhere is PEM with its certificate, or PKCS #12"
)


@click.command(epilog="Example:  vm new greeter --template service")
@click.argument("folder", type=PATH, metavar="NAME")
@click.option("-t", "--template", type=click.Choice(TEMPLATES), default="python", show_default=True,
              help="What to begin with: a script, a library in C, or a service that the host calls.")  # fmt: skip
def new(folder: Path, template: str) -> None:
    """Make the project NAME, a new folder with a payload that runs as it is."""
    from avf.project import make_project

    with project_errors():
        files = make_project(folder, template)
    _say(f"made {folder}: {', '.join(files)}")
    _say(f"run it:  vm run-app {folder}")


@click.command("build", epilog="Example:  vm build greeter -o greeter.apk --key release.pem")
@click.argument("source", type=SourceFile())
@click.option("-o", "--out", type=FILE, help="The APK.  [default: NAME.apk, for a source NAME]")
@click.option("--key", type=FILE, help="What signs it: PEM with key and certificate, or PKCS #12."
              "  [default: your debug key]")  # fmt: skip
@click.option("--password-file", type=FILE, help="The first line is the password of the key.")
@click.option(
    "--package", metavar="NAME", help="Instead of what payload.toml says, or the source's name."
)
@click.option("--version", "version", type=WholeNumber(1, (1 << 31) - 1), metavar="N",
              help="The same for the version; an instance takes no earlier one.")  # fmt: skip
def build_command(
    source: Path,
    out: Path | None,
    key: Path | None,
    password_file: Path | None,
    package: str | None,
    version: int | None,
) -> None:
    """Make a signed APK of SOURCE: a script, a program, a library, C or C++ source, or a folder with one of them."""
    from avf.project import check_package, open_project

    with project_errors():
        project = open_project(source)
        if package is not None:
            check_package(package, "--package")
        project = replace(
            project, package=package or project.package, version=version or project.version
        )
        signer = _key(key, password_file)
        target = out or Path(f"{_apk_name(source)}.apk")
        built = _build(project, target, signer)
    files = "1 file" if built.files == 1 else f"{built.files} files"
    _say(f"made {target}: package {built.package}, version {built.version}, {files}")
    _say(f"run it:  vm run-app {target}")


def _apk_name(source: Path) -> str:
    """Without its suffix, of a file."""
    whole = source.resolve()
    return whole.name if whole.is_dir() else whole.stem


def _build(project: "Project", target: Path, key: "SigningKey") -> "Built":
    """The APK appears whole or not at all. Raises CliError for a target that is another kind of file."""
    from avf.project import build

    with _replaced(target) as file:
        return build(project, file, key)


@contextmanager
def _replaced(target: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of an APK, or of none, if all goes well."""
    try:
        _check_replaceable(target)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".avf-", delete=False) as file:
            try:
                yield file.file  # type: ignore[misc]
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                Path(file.name).replace(target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CliError(f"{target} cannot be written: {error.strerror}") from None


def _check_replaceable(target: Path) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_file():
        raise CliError(f"{target} is not a regular file", "name a file by -o")
    with open(target, "rb") as file:
        found = foreign(file.fileno(), Kind.APK)
    if found is not None:
        raise CliError(f"{target} is not empty and is no APK: {found}")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _key(path: Path | None, password_file: Path | None) -> "SigningKey":
    """Raises CliError."""
    from avf.apk import SigningKey
    from avf.project import debug_key

    if path is None:
        if password_file is not None:
            raise CliError("--password-file is for the key that --key names")
        made = debug_key()
        if made.is_new:
            _say(f"made your debug key {made.path}")
        _say(f"signing with your debug key; `vm keygen` makes one to publish with ({made.path})")
        return made.key
    content = _read(path, _MAX_KEY)
    try:
        if path.suffix in _PKCS12:
            password = _password(password_file, path, confirm=False)
            return SigningKey.from_key_store(content, password)
        given = None if password_file is None else _password(password_file, path, confirm=False)
        return SigningKey.load(content, content, password=given.encode() if given else None)
    except ApkError as error:
        raise CliError(f"the key {path} cannot be used: {error}", _KEY_HINT) from error


@click.command(epilog="Example:  vm keygen release.pem --common-name 'Example Ltd'")
@click.argument("path", type=FILE, metavar="FILE")
@click.option(
    "--kind", type=click.Choice(_KINDS), default="ec-p256", show_default=True, help="Of the key."
)
@click.option("--common-name", default="AVF payload", show_default=True,
              help="Whose key it is, for the certificate.")  # fmt: skip
@click.option("--password-file", type=FILE,
              help="The first line is the password of a PKCS #12 file.  [default: asked for]")  # fmt: skip
def keygen(path: Path, kind: str, common_name: str, password_file: Path | None) -> None:
    """Make a key and its self-signed certificate in the new FILE, which its owner alone can read.

    FILE is PEM without a password, or a PKCS #12 key store if its name ends in .p12 or .pfx. No file is written over.
    Keep it: an APK that another key signs is another author's, and gets no secrets of this one's.
    """
    from avf.apk import SigningKey
    from avf.project import write_new

    if os.path.lexists(path):
        raise CliError(f"{path} is there already; a key is never written over")
    if not 1 <= len(common_name) <= 64:
        raise CliError("--common-name has 1 to 64 characters")
    is_store = path.suffix in _PKCS12
    password = _password(password_file, path, confirm=True) if is_store else ""
    try:
        key = SigningKey.generate(kind, common_name=common_name)
        content = key.to_pkcs12(password) if is_store else b"".join(key.to_pem())
        if not write_new(path, content):
            raise CliError(f"{path} is there already; a key is never written over")
    except ApkError as error:
        raise CliError(str(error)) from error
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}") from None
    _say(f"made {path}: {kind}, {common_name}")
    _say(f"sign with it:  vm build SOURCE --key {path}")


def _password(source: Path | None, key: Path, *, confirm: bool) -> str:
    if source is None:
        return _asked_password(key, confirm=confirm)
    line = _read(source, _MAX_PASSWORD).splitlines()[:1]
    try:
        password = line[0].decode() if line else ""
    except UnicodeDecodeError:
        password = ""
    if not password:
        raise CliError(f"{source} has no password in its first line")
    return password


def _asked_password(key: Path, *, confirm: bool) -> str:
    """What is typed, or comes out of a pipe. Raises CliError if nothing does."""
    question = f"Password of {key}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", GetPassWarning
            )  # that a pipe shows what comes out of it
            return str(
                click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True)
            )
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise CliError(
            f"{key} needs a password", "--password-file names a file that has it"
        ) from None


def _read(path: Path, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise CliError(f"Failed to open {path}: {error.strerror}") from error
    if len(content) > limit:
        raise CliError(f"{path} is longer than {limit} bytes")
    return content


def _say(text: str) -> None:
    click.echo(printable(text), err=True)
