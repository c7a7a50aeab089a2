"""Where .aidl files are found, and where Python modules go."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import AidlError, Diagnostic
from .limits import FILE_SIZE, ROOTS
from .source import Source

FROZEN = "aidl_api"
"""The directory that Android's build keeps frozen versions in, beside the current files."""

_TOLD = 3
"""Include directories that a message names."""


def read_source(path: Path) -> Source:
    """Raises AidlError for what is no text of a sensible size."""
    try:
        with open(path, "rb", opener=_open) as file:
            data = file.read(FILE_SIZE + 1)
    except OSError as error:
        raise AidlError([Diagnostic(f"{path}: {error.strerror}")]) from error
    if len(data) > FILE_SIZE:
        raise AidlError([Diagnostic(f"{path}: more than {FILE_SIZE} bytes")])
    try:
        return Source(str(path), data.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AidlError([Diagnostic(f"{path}:{line}: no UTF-8 text")]) from error


def _open(path: str, flags: int) -> int:
    """Opens a regular file; a pipe in its place must not stop us."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def expand(paths: Iterable[Path]) -> list[Path]:
    """The files, and the .aidl files below those that are directories, but for frozen versions of interfaces."""
    found: dict[Path, None] = {}
    for path in paths:
        below = [path]
        if path.is_dir():
            inside = sorted(path.rglob("*.aidl"))
            below = [file for file in inside if FROZEN not in file.relative_to(path).parts]
        found.update(dict.fromkeys(below))
        if not below:
            raise AidlError([Diagnostic(f"{path}: no .aidl files in this directory")])
    return list(found)


class FileLoader:
    """Finds imported files below include directories, and beside the files that are compiled."""

    def __init__(self, include: Iterable[Path]) -> None:
        self._roots = dict.fromkeys(include)
        self._known: dict[Path, Source] = {}
        self._folders: dict[Path, list[Source]] = {}

    def read(self, path: Path) -> Source:
        """Each file once, however it is reached."""
        real = path.resolve()
        if real not in self._known:
            self._known[real] = read_source(path)
        return self._known[real]

    def add_root_of(self, path: Path, package: str) -> None:
        """Looks also where a compiled file's package begins: x for x/a/b/C.aidl of package a.b."""
        parts = package.split(".") if package else []
        directory = path.parent
        for part in reversed(parts):
            if directory.name != part:
                return
            directory = directory.parent
        self._roots[directory] = None
        if len(self._roots) > ROOTS:
            message = f"{path}: imports are looked for in at most {ROOTS} directories"
            raise AidlError([Diagnostic(message)])

    def find(self, name: str) -> Source | None:
        relative = Path(*name.split(".")).with_suffix(".aidl")
        for root in self._roots:
            if _is_file(root / relative):
                return self.read(root / relative)
        return None

    def siblings(self, source: Source, package: str) -> list[Source]:
        folder = Path(source.path).parent
        if folder not in self._folders:
            self._folders[folder] = list(self._readable(sorted(folder.glob("*.aidl"))))
        return self._folders[folder]

    def _readable(self, paths: Iterable[Path]) -> Iterator[Source]:
        for path in paths:
            try:
                yield self.read(path)
            except AidlError:
                continue

    def describe(self) -> str:
        roots = [str(root) for root in self._roots]
        if len(roots) > _TOLD:
            roots[_TOLD - 1 :] = [f"{len(roots) - _TOLD + 1} other directories"]
        return f"in {', '.join(roots)}" if roots else "without -I"


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a name too long for one is none's."""
    try:
        return path.is_file()
    except OSError:
        return False


class Output:
    """Modules as files below a directory."""

    def __init__(self, root: Path, modules: Iterable[str]) -> None:
        self._root = root
        self._modules = set(modules)
        self._packages = {
            ".".join(parts[:end])
            for parts in (module.split(".") for module in self._modules)
            for end in range(1, len(parts))
        }

    def path(self, module: str) -> Path:
        """A module that others lie in is a package's __init__.py. Raises AidlError if files are in the way."""
        base = self._root.joinpath(*module.split("."))
        for parent in base.parents:
            if parent == self._root:
                break
            file = parent.with_suffix(".py")
            inside = ".".join(parent.relative_to(self._root).parts)
            if file.exists() and inside not in self._modules:
                message = f"{file} is in the way of {base}.py; compile both packages in one run"
                raise AidlError([Diagnostic(message)])
        if module in self._packages or base.is_dir():
            return base / "__init__.py"
        return base.with_suffix(".py")

    def stale(self, module: str) -> Path | None:
        """The file the module was before it became a package."""
        file = self._root.joinpath(*module.split(".")).with_suffix(".py")
        return file if file != self.path(module) and file.exists() else None
