"""Debian packages through apt, without root and without touching the system's apt state.

apt runs with lists, cache and status of its own inside our cache directory; sources and keys are the host's.
What was resolved once stays pinned in `packages.json` until an update is asked for: builds are
repeatable and work offline.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from avf.image.errors import AptMissing, PackageError

Progress = Callable[[str], None]
T = TypeVar("T")

_URI_LINE = re.compile(
    r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<hash>[0-9a-f]{64})$"
)
_FILE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]*)_(?P<version>[0-9A-Za-z.+:~%-]+)_[a-z0-9-]+\.deb"
)
"""NAME_VERSION_ARCHITECTURE.deb, the version with %3a for a colon."""
_LAST_LINES = 20
"""How much is told of what apt-get wrote before it failed."""
_MAX_PINS = 1 << 20
_NO_PINS = (ValueError, KeyError, TypeError, AttributeError, RecursionError, PackageError)
_GOT = re.compile(r"Get:\d+ (?P<words>.*)")
"""What apt-get writes, at -q, when it begins with a file: its source, its name and more."""
_HOST_LISTS = Path("/var/lib/apt/lists")
_DROPPED_OPTIONS = re.compile(
    r"^(Dir|DPkg|APT::Update|APT::NeverAutoRemove|Unattended-Upgrade)\b", re.I
)


@dataclass(frozen=True, slots=True)
class Package:
    """One downloaded .deb."""

    name: str
    version: str
    path: Path


@dataclass(frozen=True, slots=True)
class _Pin:
    file: str
    sha256: str


class AptCache:
    """Packages kept under one directory. Several processes may share it.

    `sources` is a one-line-style list of package sources to use in place of the host's.
    """

    def __init__(
        self, directory: Path, progress: Progress = lambda _: None, sources: Path | None = None
    ) -> None:
        self._directory = directory.resolve()
        self._archives = self._directory / "archives"
        self._state = self._directory / "apt"
        self._progress = progress
        self._sources = sources

    def fetch(self, names: Iterable[str], *, update: bool = False) -> dict[str, Package]:
        """The pinned package of each name; the newest known one if none is or with `update`. Raises PackageError."""
        wanted = list(dict.fromkeys(names))
        with self._locked():
            pins = {} if update else self._pins()
            unknown = [name for name in wanted if not self._is_here(pins.get(name))]
            if unknown:
                self._prepare()
                pins |= self._resolve(unknown)
                self._download(pins)
                self._write_pins(self._pins() | pins)
        return {name: self._package(pins[name]) for name in wanted}

    def with_lists(self, attempt: Callable[[], T], *, update: bool) -> T:
        """What `attempt` makes of the package lists at hand; of fresh ones with `update` or if it fails with those."""
        if not update:
            try:
                return attempt()
            except AptMissing:
                raise
            except PackageError as error:
                self._progress(f"trying with fresh package lists: {error}")
        self.refresh()
        return attempt()

    def refresh(self) -> None:
        """Fetches the package lists anew. Raises PackageError."""
        with self._locked():
            self._prepare()
            self._refresh()

    def dependency(self, name: str, pattern: str) -> str:
        """The dependency of `name` that matches `pattern`, e.g. the versioned package behind a meta package."""
        with self._locked():
            self._prepare()
            listing = self._apt("apt-cache", "depends", "--important", name)
        for line in listing.splitlines():
            kind, _, dependency = line.strip().partition(": ")
            if kind in ("Depends", "PreDepends") and re.fullmatch(pattern, dependency):
                return dependency
        raise PackageError(f"no package like {pattern!r} among the dependencies of {name}")

    def exists(self, name: str) -> bool:
        """Whether the sources offer a package of this name."""
        with self._locked():
            self._prepare()
            return name in self._apt("apt-cache", "pkgnames", name).split()

    def _package(self, pin: _Pin) -> Package:
        name, version = _parts(pin)
        return Package(name, version, self._archives / pin.file)

    def _resolve(self, names: list[str]) -> dict[str, _Pin]:
        found = {}
        for line in self._apt("apt-get", "-qq", "download", "--print-uris", *names).splitlines():
            if match := _URI_LINE.match(line.strip()):
                pin = _Pin(match["file"], match["hash"])
                found[_parts(pin)[0]] = pin
        if missing := sorted(set(names) - set(found)):
            raise PackageError(f"apt offers no SHA256-hashed package for: {' '.join(missing)}")
        return found

    def _download(self, pins: dict[str, _Pin]) -> None:
        missing = [name for name, pin in pins.items() if not self._is_here(pin)]
        if not missing:
            return
        for name in missing:
            # apt takes a file of the right size for the right file
            (self._archives / pins[name].file).unlink(missing_ok=True)
        number = 0

        def tell(line: str) -> None:
            nonlocal number
            if match := _GOT.match(line):
                name = next((word for word in match["words"].split() if word in missing), "")
                number += 1
                self._progress(f"downloading {name} ({number}/{len(missing)})")

        command = ["apt-get", "-q", "download", *missing]
        _follow(command, self._environment(), self._archives, tell)
        for name in missing:
            if not self._is_here(pins[name]):
                raise PackageError(
                    f"{self._archives / pins[name].file} does not have the hash apt knows"
                )

    def _is_here(self, pin: _Pin | None) -> bool:
        if pin is None:
            return False
        try:
            with (self._archives / pin.file).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == pin.sha256
        except FileNotFoundError:
            return False

    def _prepare(self) -> None:
        """apt's directories and settings, and the host's package lists where there are none of our own yet."""
        lists = self._state / "state/lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        (self._state / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
        (self._state / "status").touch()
        self._write_config()
        if not _index_files(lists) and self._sources is None:
            for file in _index_files(_HOST_LISTS):
                shutil.copy2(file, lists)
        if not _index_files(lists):
            self._refresh()

    def _refresh(self) -> None:
        self._progress("refreshing the package lists")
        self._apt("apt-get", "-qq", "update")

    def _write_config(self) -> None:
        """The host's own settings (proxies, pins) minus its directories and its hooks, which would act on the host."""
        dump = _run(["apt-config", "dump"], os.environ, self._directory)
        kept = [line for line in dump.splitlines() if not _DROPPED_OPTIONS.match(line)]
        ours = {
            "Dir::State": self._state / "state",
            "Dir::State::status": self._state / "status",
            "Dir::Cache": self._state / "cache",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            "APT::Sandbox::User": "root",
        }
        if self._sources:
            ours |= {"Dir::Etc::sourcelist": self._sources, "Dir::Etc::sourceparts": "/dev/null"}
        lines = kept + [f'{key} "{value}";' for key, value in ours.items()]
        (self._state / "apt.conf").write_text("\n".join(lines) + "\n")

    def _apt(self, *command: str) -> str:
        return _run(list(command), self._environment(), self._state)

    def _environment(self) -> dict[str, str]:
        return os.environ | {"APT_CONFIG": str(self._state / "apt.conf"), "LC_ALL": "C"}

    def _pins(self) -> dict[str, _Pin]:
        try:
            with (self._directory / "packages.json").open() as file:
                stored: dict[str, Any] = json.loads(file.read(_MAX_PINS))
            pins = {name: _Pin(pin["file"], pin["sha256"]) for name, pin in stored.items()}
            if all(_parts(pin)[0] == name for name, pin in pins.items()):
                return pins
            raise ValueError("a pin for another package")
        except FileNotFoundError:
            return {}
        except _NO_PINS as error:
            raise PackageError(
                f"{self._directory / 'packages.json'} is damaged; remove it"
            ) from error

    def _write_pins(self, pins: dict[str, _Pin]) -> None:
        stored = {
            name: {"file": pin.file, "sha256": pin.sha256} for name, pin in sorted(pins.items())
        }
        temporary = self._directory / f"packages.json.{os.getpid()}"
        temporary.write_text(json.dumps(stored, indent=1) + "\n")
        temporary.replace(self._directory / "packages.json")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._archives.mkdir(parents=True, exist_ok=True)
        with (self._directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _index_files(lists: Path) -> list[Path]:
    return [path for path in lists.glob("*_*") if path.is_file()]


def _parts(pin: _Pin) -> tuple[str, str]:
    """Name and version of a package by its file. Raises PackageError for what is no plain file name."""
    match = _FILE.fullmatch(pin.file)
    version = unquote(match["version"]) if match else "/"
    if match is None or "/" in version or "\0" in version:
        raise PackageError(f"{pin.file!r} is not the name of a package's file")
    return match["name"], version


def _run(command: list[str], environment: Mapping[str, str], directory: Path) -> str:
    with _started(command, environment, directory, stderr=subprocess.PIPE) as process:
        output, errors = process.communicate()
    if process.returncode:
        raise PackageError(f"{' '.join(command)} failed: {errors.strip() or output.strip()}")
    return output


def _follow(
    command: list[str], environment: Mapping[str, str], directory: Path, tell: Callable[[str], None]
) -> None:
    """Runs it and tells of each line that it writes."""
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    with _started(command, environment, directory, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tell(line)
            if not _GOT.match(line):
                lines.append(line)
    if process.returncode:
        raise PackageError(f"{' '.join(command)} failed: {''.join(lines).strip()}")


def _started(
    command: list[str], environment: Mapping[str, str], directory: Path, stderr: int
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise AptMissing(
            f"{command[0]} is missing: images are built on Debian or Ubuntu"
        ) from error
