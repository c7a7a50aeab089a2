"""Makes the APK: what goes where, under which package, signed with which key."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from avf.apk import ApkBuilder, ApkError, SigningKey
from avf.project import files, recorded, settings, source, vendor
from avf.project.compile import compile_c
from avf.project.errors import ProjectError
from avf.project.source import SourceKind, kind_of

_LIBRARIES, _PROGRAMS, _ASSETS = f"lib/{source.ABI}", "bin", "assets"
_SITE_PACKAGES = "site-packages"
_EXECUTABLE, _PLAIN = 0o755, 0o644
_COMPILED = (SourceKind.C, SourceKind.C_PROGRAM)
_SOURCE_SUFFIXES = source.C_SUFFIXES | source.CPP_SUFFIXES | source.HEADER_SUFFIXES


@dataclass(frozen=True, slots=True)
class Project:
    """A source that an APK can be made of. `rule`: how its main file was found; None for a source of one file."""

    path: Path
    main: Path
    kind: SourceKind
    package: str
    version: int
    rule: str | None

    @property
    def payload_name(self) -> str:
        """Of the payload in the APK."""
        if self.kind is SourceKind.C_PROGRAM:
            return self.main.stem
        return f"lib{self.main.stem}.so" if self.kind is SourceKind.C else self.main.name

    @property
    def summary(self) -> str:
        """In words: what is run, and why that."""
        why = "" if self.rule is None else f", {self.rule}"
        where = "" if self.rule is None else f" of {self.path}"
        return f"{self.main.name}{where} ({self.kind.value}{why})"


@dataclass(frozen=True, slots=True)
class Built:
    """An APK that was made. `main`: the payload's name in it."""

    main: str
    package: str
    version: int
    files: int


def open_project(path: Path) -> Project:
    """What is at `path`, as far as it can be told without building it. Raises ProjectError."""
    kind = kind_of(path)
    if kind is SourceKind.APK:
        raise ProjectError(f"{path} is an APK already")
    if kind is SourceKind.FOLDER:
        return _open_folder(path)
    return _checked(Project(path, path, kind, settings.package_for(path.name), 1, None))


def _open_folder(path: Path) -> Project:
    told = settings.load(path)
    try:
        main = files.find_main(path, told.main)
    except OSError as error:
        raise ProjectError(f"{path}: {error.strerror}") from error
    kind = kind_of(main.path)
    if kind is SourceKind.APK:
        raise ProjectError(f"{main.path} is an APK already")
    package = told.package or settings.package_for(path.resolve().name)
    return _checked(Project(path, main.path, kind, package, told.version, main.rule))


def _checked(project: Project) -> Project:
    if project.kind is SourceKind.C and source.is_c_program(_c_sources(project)):
        project = replace(project, kind=SourceKind.C_PROGRAM)
    name = project.main.name
    if not name.isprintable() or "\\" in name:
        raise ProjectError(f"{name!r} is no name for a payload")
    if project.kind is SourceKind.LIBRARY:
        source.require_entry(project.main)
    return project


def build(project: Project, out: BinaryIO, key: SigningKey) -> Built:
    """Writes the signed APK to `out`, an empty file open for reading and writing. Raises ProjectError."""
    builder = ApkBuilder(
        project.package, version_code=project.version, version_name=str(project.version)
    )
    count = 0
    try:
        with _contents(project) as contents:
            for name, content, mode in contents:
                builder.add(name, content, mode=mode)
                count += 1
            builder.add(recorded.ENTRY, recorded.encode_main(project.payload_name))
            builder.build(out, key)
    except ApkError as error:
        raise ProjectError(f"{project.path}: {error}") from error
    except OSError as error:
        raise ProjectError(f"{error.filename or project.path}: {error.strerror}") from error
    return Built(project.payload_name, project.package, project.version, count)


_Content = tuple[str, bytes | Path, int]


@contextmanager
def _contents(project: Project) -> Iterator[Iterator[_Content]]:
    """The entries; files that are made for them are there as long as the context is."""
    with tempfile.TemporaryDirectory(prefix="avf-build-") as made:
        yield _entries(project, Path(made))


def _entries(project: Project, made: Path) -> Iterator[_Content]:
    if project.kind in _COMPILED:
        is_library = project.kind is SourceKind.C
        compiled = made / project.payload_name
        compile_c(_c_sources(project), compiled, is_library=is_library)
        if is_library:
            source.require_entry(compiled, project.main)
        folder = _LIBRARIES if is_library else _PROGRAMS
        yield f"{folder}/{project.payload_name}", compiled, _EXECUTABLE
    elif project.rule is None:
        yield _place(project, project.main.name, project.main)
    if project.rule is not None:
        yield from _folder_entries(project)


def _c_sources(project: Project) -> list[Path]:
    """All at the top of the folder, or the one file."""
    if project.rule is None:
        return [project.main]
    suffixes = source.C_SUFFIXES | source.CPP_SUFFIXES
    return sorted(path for path in project.path.iterdir() if path.suffix in suffixes)


def _folder_entries(project: Project) -> Iterator[_Content]:
    own = set()
    for name, path in files.walk(project.path):
        if project.kind in _COMPILED and path.suffix in _SOURCE_SUFFIXES:
            continue
        own.add(name)
        yield _place(project, name, path)
    requirements = project.path / files.REQUIREMENTS
    if not requirements.exists():
        return
    if project.kind is not SourceKind.PYTHON:
        raise ProjectError(f"{requirements} is for Python, but the payload is {project.summary}")
    for name, content in vendor.vendored(requirements):
        if name in own:
            raise ProjectError(f"{project.path / name} is also in a wheel of {requirements.name}")
        yield f"{_SITE_PACKAGES}/{name}", content, _PLAIN


def _place(project: Project, name: str, path: Path) -> _Content:
    """Libraries where libraries belong; beside a script or program all that is beside it in the folder; `assets/` as it
    is."""
    is_native = project.kind in (SourceKind.C, SourceKind.LIBRARY)
    mode = _EXECUTABLE if name == project.main.name or path.stat().st_mode & 0o111 else _PLAIN
    if name.startswith(f"{_ASSETS}/"):
        return name, path, _PLAIN
    if not is_native:
        return f"{_PROGRAMS}/{name}", path, mode
    if "/" not in name and path.suffix == ".so":
        return f"{_LIBRARIES}/{name}", path, _EXECUTABLE
    return f"{_ASSETS}/{name}", path, _PLAIN
