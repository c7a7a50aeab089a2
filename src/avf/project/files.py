"""The files of a folder that go into its APK, and the one of them that is the payload."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from avf.project import settings
from avf.project.errors import ProjectError
from avf.project.source import is_runnable

REQUIREMENTS = "requirements.txt"
MAX_FILES = 20_000
MAX_BYTES = 1 << 30
_MAIN_NAMES = ("main.py", "__main__.py", "main.sh", "main.c", "main.cpp", "main")
_LEFT_OUT_FOLDERS = {"__pycache__", "build", "dist", "node_modules", "tests"}
_LEFT_OUT_NAMES = {settings.NAME, REQUIREMENTS}
_LEFT_OUT_SUFFIXES = {".pyc", ".apk", ".idsig", ".img", ".p12", ".jks"}
_VIRTUAL_ENVIRONMENT = "pyvenv.cfg"
_PRIVATE_KEY = b"PRIVATE KEY-----"
_MAX_KEY = 64 << 10


@dataclass(frozen=True, slots=True)
class Main:
    """The file that is run, and by which rule it was found."""

    path: Path
    rule: str


def find_main(folder: Path, chosen: str | None) -> Main:
    """What payload.toml names; else the first of `_MAIN_NAMES` that is there; else the only file that can be run.

    Raises ProjectError.
    """
    if chosen is not None:
        if not (folder / chosen).is_file():
            raise ProjectError(f"{folder / settings.NAME}: main names {chosen}, which is not there")
        return Main(folder / chosen, f"{settings.NAME} names it")
    for name in _MAIN_NAMES:
        if (folder / name).is_file():
            return Main(folder / name, "for its name")
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and is_runnable(path)]
    if len(found) == 1:
        return Main(found[0], "the only file there that can be run")
    what = ", ".join(path.name for path in found[:10]) if found else "no file there can be run"
    raise ProjectError(
        f"{folder}: which file is the payload? {what}",
        f'call it main.py, main.sh, main.c, main.cpp or main, or write  main = "FILE"  into {folder / settings.NAME}',
    )


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """(path inside the folder, file), sorted. Raises ProjectError for a link that leads out, and for too much."""
    top = Path(os.path.realpath(folder))
    count = size = 0
    for name in _names(top, ""):
        path = top / name
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(top):
            raise ProjectError(f"{folder / name} is a link that leads out of the folder, to {real}")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ProjectError(
                f"{folder / name} is not a regular file", "take it out of the folder"
            )
        if _is_private_key(path, status.st_size):
            continue
        count, size = count + 1, size + status.st_size
        if count > MAX_FILES or size > MAX_BYTES:
            raise ProjectError(f"{folder} has more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB")
        yield name, path


def _names(folder: Path, prefix: str) -> Iterator[str]:
    """A folder that is reached by a link is not entered."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            is_environment = (folder / entry.name / _VIRTUAL_ENVIRONMENT).exists()
            if entry.name not in _LEFT_OUT_FOLDERS and not is_environment:
                yield from _names(folder / entry.name, f"{prefix}{entry.name}/")
        elif Path(entry.name).suffix not in _LEFT_OUT_SUFFIXES and (
            prefix or entry.name not in _LEFT_OUT_NAMES
        ):
            yield prefix + entry.name


def _is_private_key(path: Path, size: int) -> bool:
    """Keys stay on the host."""
    if path.suffix not in (".pem", ".key") or size > _MAX_KEY:
        return False
    return _PRIVATE_KEY in path.read_bytes()
