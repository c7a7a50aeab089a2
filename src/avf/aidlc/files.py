"""Where .aidl files are found, and where Python modules go."""

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .compiler import Module
from .errors import AidlError, Diagnostic
from .limits import FILE_SIZE, ROOTS
from .package import is_written, package_text, read_exports, read_head
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
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        return Source(str(path), text, path.absolute())
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
        """Raises AidlError if there are several such files."""
        relative = Path(*name.split(".")).with_suffix(".aidl")
        found: dict[Path, Path] = {}
        for root in self._roots:
            if _is_file(root / relative):
                found.setdefault((root / relative).resolve(), root / relative)
        if len(found) > 1:
            places = " and ".join(map(str, list(found.values())[:_TOLD]))
            message = f"{name} is in several files: {places}; leave out a directory"
            raise AidlError([Diagnostic(message)])
        return self.read(next(iter(found.values()))) if found else None

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
    """Python packages as directories below a directory, with a module for each AIDL type in them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, module: str) -> Path:
        return self._root.joinpath(*module.split(".")).with_suffix(".py")

    def init(self, package: str) -> Path:
        return self._root.joinpath(*package.split(".")) / "__init__.py"

    def known(self, module: str) -> tuple[int, str]:
        """The version and the hash of a module that is there."""
        head = read_head(_text(self.path(module)))
        return (head.version, head.hash) if head else (0, "")

    def stale(self, package: str) -> Path | None:
        """The file that 0.1 wrote for the package. Raises AidlError for one that avf-aidl did not write."""
        file = self._root.joinpath(*package.split(".")).with_suffix(".py")
        if not _is_file(file):
            return None
        if not is_written(_text(file)):
            message = f"{file} is in the way of the package {file.with_suffix('')}"
            raise AidlError([Diagnostic(message)])
        return file

    def package_text(self, package: str, modules: Iterable[Module]) -> str:
        """What the package's `__init__` has to be with these modules and those that are there.

        Raises AidlError if one of them, or `__init__`, is not by avf-aidl.
        """
        init = self.init(package)
        if (text := _text(init)) and not is_written(text):
            raise AidlError([Diagnostic(f"{init} is in the way: avf-aidl did not write it")])
        paths = {module.stem: module.path for module in modules}
        exports = {name: module.stem for module in modules for name in module.exports}
        for file in sorted(init.parent.glob("_*.py")):
            if file.stem in paths or file == init:
                continue
            text = _text(file)
            if (head := read_head(text)) is not None:
                paths[file.stem] = head.path
                for name in _exports(file, text):
                    if exports.setdefault(name, file.stem) != file.stem:
                        message = f"{file} has {name}, which {exports[name]}.py has, too"
                        raise AidlError([Diagnostic(message)])
        return package_text(paths, exports)

    def changes(self, modules: list[Module]) -> dict[Path, str | None]:
        """The texts of files that are not as they should be; None for one that should not be there."""
        found: dict[Path, str | None] = {}
        for module in modules:
            path = self.path(module.name)
            text = _text(path)
            if (head := read_head(text)) is None and text:
                raise AidlError([Diagnostic(f"{path} is in the way: avf-aidl did not write it")])
            if head is not None and head.path != module.path:
                message = f"{path} is of {head.path}.aidl, not of {module.path}.aidl"
                raise AidlError([Diagnostic(message)])
            if text != module.text:
                found[path] = module.text
        for package in sorted({module.package for module in modules}):
            inside = [module for module in modules if module.package == package]
            text = self.package_text(package, inside)
            if _text(self.init(package)) != text:
                found[self.init(package)] = text
            if (stale := self.stale(package)) is not None:
                found[stale] = None
        return found

    def write(self, modules: list[Module]) -> None:
        """Brings the files up to date; what is as it should be is left alone.

        Others may write into the same packages at the same time: they wait for one another.
        """
        with ExitStack() as stack:
            for folder in sorted({self.path(module.name).parent for module in modules}):
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_locked(folder))
            for path, text in self.changes(modules).items():
                if text is None:
                    path.unlink()
                else:
                    replace_text(path, text)


def replace_text(path: Path, text: str) -> None:
    """Writes a file so that there is the old one or the new one at any time."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        try:
            file.write(text)
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _text(path: Path) -> str:
    """A file's text; empty if there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise AidlError([Diagnostic(f"{path} is in the way: no UTF-8 text")]) from error


def _exports(file: Path, text: str) -> list[str]:
    try:
        return read_exports(text)
    except (SyntaxError, ValueError) as error:
        message = f"{file} is not as avf-aidl wrote it ({error}); delete it"
        raise AidlError([Diagnostic(message)]) from error


def depfile_text(targets: Iterable[Path], inputs: Iterable[str]) -> str:
    """A dependency file for make and ninja: the targets are made of the inputs, any of which may vanish."""
    names = [_escaped(str(path)) for path in inputs]
    made = " ".join(_escaped(str(path)) for path in targets)
    rules = [f"{made}: {' '.join(names)}".rstrip(), *(f"{name}:" for name in names)]
    return "\n".join(rules) + "\n"


def _escaped(path: str) -> str:
    return path.replace("$", "$$").replace("#", "\\#").replace(" ", "\\ ")
