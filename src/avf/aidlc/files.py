"""Where .aidl files are found, and where Python modules go."""

from collections.abc import Iterable
from pathlib import Path

from .errors import AidlError, Diagnostic
from .source import Source

MAX_SIZE = 4 << 20
"""Bytes in one .aidl file."""
FROZEN = "aidl_api"
"""The directory that Android's build keeps frozen versions in, beside the current files."""

_TOLD = 3
"""Include directories that a message names."""


def read_source(path: Path) -> Source:
    """Raises AidlError for what is no text of a sensible size."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise AidlError([Diagnostic(f"{path}: {error.strerror}")]) from error
    if len(data) > MAX_SIZE:
        raise AidlError([Diagnostic(f"{path}: more than {MAX_SIZE} bytes")])
    try:
        return Source(str(path), data.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AidlError([Diagnostic(f"{path}:{line}: no UTF-8 text")]) from error


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
        self._roots = list(include)
        self._known: dict[Path, Source] = {}

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
        if directory not in self._roots:
            self._roots.append(directory)

    def find(self, name: str) -> Source | None:
        relative = Path(*name.split(".")).with_suffix(".aidl")
        for root in self._roots:
            if (root / relative).is_file():
                return self.read(root / relative)
        return None

    def siblings(self, source: Source, package: str) -> list[Source]:
        paths = sorted(Path(source.path).parent.glob("*.aidl"))
        found = []
        for path in paths:
            try:
                found.append(self.read(path))
            except AidlError:
                continue
        return found

    def describe(self) -> str:
        roots = [str(root) for root in self._roots]
        if len(roots) > _TOLD:
            roots[_TOLD - 1 :] = [f"{len(roots) - _TOLD + 1} other directories"]
        return f"in {', '.join(roots)}" if roots else "without -I"


class Output:
    """Modules as files below a directory."""

    def __init__(self, root: Path, modules: Iterable[str]) -> None:
        self._root = root
        self._modules = set(modules)

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
        nested = any(other.startswith(f"{module}.") for other in self._modules)
        if nested or base.is_dir():
            return base / "__init__.py"
        return base.with_suffix(".py")

    def stale(self, module: str) -> Path | None:
        """The file the module was before it became a package."""
        file = self._root.joinpath(*module.split(".")).with_suffix(".py")
        return file if file != self.path(module) and file.exists() else None
