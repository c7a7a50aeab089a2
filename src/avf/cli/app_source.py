"""What `vm run-app` is given: an APK, or a source of which one is made on the way."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avf.cli.tell import print_note
from avf.cli.text import CliError

if TYPE_CHECKING:
    from avf.project import Project


@dataclass(frozen=True, slots=True)
class App:
    """An APK and what names the payload in it: one of `binary` and `config_path`."""

    apk: Path
    binary: str | None
    config_path: str | None
    project: "Project | None" = None
    """What the APK was made of just now."""
    made: bool = False
    """Whether it was made of a source before."""

    @property
    def is_source(self) -> bool:
        """Whether the user gave the source."""
        return self.project is not None or self.made

    @property
    def label(self) -> str:
        """What the VM is called unless the user says it."""
        return "VmRunApp" if self.project is None else self.project.path.resolve().name

    @property
    def description(self) -> str:
        """What runs, in words."""
        return self.binary or str(self.apk) if self.project is None else self.project.summary


@contextmanager
def opened_app(
    source: Path,
    idsig: Path | None,
    instance: Path | None,
    binary: str | None,
    config_path: str | None,
) -> Iterator[App]:
    """The APK, which is there as long as the context if it is made of a source. Raises CliError."""
    from avf.project import SourceKind, kind_of, open_project

    with project_errors():
        kind = kind_of(source) if source.exists() else SourceKind.APK
    if kind is SourceKind.APK:
        yield _given(source, binary, config_path)
        return
    _refuse_what_apks_take(source, idsig, instance, binary, config_path)
    with tempfile.TemporaryDirectory(prefix="avf-") as folder:
        apk = Path(folder, "app.apk")
        with project_errors():
            project = open_project(source)
            make_apk(project, apk)
        yield App(apk, project.payload_name, None, project)


def make_apk(project: "Project", apk: Path) -> None:
    """Builds and signs with the user's debug key. Raises ProjectError."""
    from avf.project import build, debug_key

    key = debug_key()
    if key.is_new:
        print_note(f"made your debug key {key.path}, which signs what is built on the way")
    with open(apk, "xb+") as file:
        build(project, file, key.key)


@contextmanager
def project_errors() -> Iterator[None]:
    """What is wrong with a source becomes an error of the command."""
    from avf.project import ProjectError

    try:
        yield
    except ProjectError as error:
        raise CliError(str(error), error.hint) from error.__cause__


def _given(apk: Path, binary: str | None, config_path: str | None) -> App:
    if binary is not None and config_path is not None:
        raise CliError("Only one of --config-path or --payload-binary-name can be defined")
    if binary is None and config_path is None:
        binary = _recorded(apk)
        if binary is None:
            _require_apk(apk)
            raise CliError(
                "Either --config-path or --payload-binary-name must be defined", _candidates(apk)
            )
        print_note(f"{apk} says that its payload is {binary}")
    return App(apk, binary, config_path)


def _recorded(apk: Path) -> str | None:
    from avf.project import recorded_main

    try:
        with open(apk, "rb") as file:
            return recorded_main(file.fileno())
    except OSError as error:
        raise CliError(f"Failed to open {apk}: {error.strerror}") from error


def _require_apk(apk: Path) -> None:
    """Raises CliError for a file that only its name makes an APK."""
    from avf.apk import ApkError, entries

    try:
        with open(apk, "rb") as file:
            entries(file.fileno())
    except (ApkError, OSError) as error:
        raise CliError(f"{apk} is no APK") from error


def _candidates(apk: Path) -> str | None:
    """A hint that names what could be meant."""
    from avf.cli.completion import payload_names

    names = payload_names(apk)
    if not names:
        return None
    return f"{apk} has these payloads: {', '.join(names[:10])}{', ...' if names[10:] else ''}"


def _refuse_what_apks_take(
    source: Path,
    idsig: Path | None,
    instance: Path | None,
    binary: str | None,
    config_path: str | None,
) -> None:
    """Words behind a source are meant for it: say where they belong, and write no file of their name."""
    if idsig is not None:
        words = f"{idsig} {instance}" if instance is not None else f"{idsig}"
        raise CliError(
            f"{source} is no APK, so it has no IDSIG {idsig}",
            f"the payload's arguments come after --:  vm run-app {source} -- {words}",
        )
    for name, value in (("--payload-binary-name", binary), ("--config-path", config_path)):
        if value is not None:
            raise CliError(f"{name} names a part of an APK, but {source} is none")
