"""A project's requirements: pure Python wheels, found by pip, kept in a cache, taken apart into files of the APK.

No code of a requirement is executed: pip gets wheels only, and what could make it build something is refused before.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

from avf.project.errors import ProjectError

MAX_REQUIREMENTS = 1 << 20
MAX_WHEEL_FILES = 20_000
MAX_WHEEL_BYTES = 256 << 20
_ELF = b"\x7fELF"
_PLAIN = re.compile(r"[A-Za-z0-9][]A-Za-z0-9._*,<>=!~;()'\"[+\s-]*")
"""Name, extras, versions and markers, of which no word may begin as an option; no URL, no path. Source: PEP 508."""
_HASH = re.compile(r"\s--hash=sha(256|384|512):[0-9a-f]+(?=\s|$)")
_ONLY_PURE = ("--platform", "any", "--implementation", "py", "--abi", "none")
_MAX_METADATA = 1 << 20
_WHEEL_FILE = re.compile(r"[^/]+\.dist-info/WHEEL")
"""The wheel's own: some have whole other packages inside theirs."""


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/avf/wheels`, by default in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "avf", "wheels")


def vendored(requirements: Path, cache: Path | None = None) -> Iterator[tuple[str, bytes]]:
    """(path, content) of what the requirements in that file and all that they require consist of.

    Raises ProjectError: for a line that is no plain requirement, for a wheel that is not pure Python, by its name.
    """
    lines = read_requirements(requirements)
    if not lines:
        return
    folder = _wheels(requirements, lines, cache or cache_directory())
    owners: dict[str, str] = {}
    for wheel in sorted(folder.glob("*.whl")):
        for name, content in unpacked(wheel):
            if name in owners:
                raise ProjectError(
                    f"{requirements}: {owners[name]} and {wheel.name} both have {name}"
                )
            owners[name] = wheel.name
            yield name, content


def read_requirements(path: Path) -> list[str]:
    """The requirements, one a line. Raises ProjectError for options, URLs, paths and other files' names."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_REQUIREMENTS + 1)
        text = content.decode()
    except OSError as error:
        raise ProjectError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ProjectError(f"{path} is not text in UTF-8") from None
    if len(content) > MAX_REQUIREMENTS:
        raise ProjectError(f"{path}: longer than {MAX_REQUIREMENTS} bytes")
    joined = re.sub(r"\\\r?\n", " ", text)
    found = []
    for line in joined.splitlines():
        wanted = re.sub(r"(^|\s)#.*", "", line).strip()
        if not wanted:
            continue
        plain = _HASH.sub("", wanted)
        if not _PLAIN.fullmatch(plain) or re.search(r"\s-", plain):
            raise ProjectError(
                f"{path}: {wanted!r} is no plain requirement",
                "lines like  requests>=2.31  are taken; options, URLs, paths and -r are not",
            )
        found.append(" ".join(wanted.split()))
    return found


def _wheels(requirements: Path, lines: Sequence[str], cache: Path) -> Path:
    """The folder with the wheels of exactly these requirements, filled if it is new."""
    version = ".".join(map(str, sys.version_info[:2]))
    key = hashlib.sha256("\n".join((version, *sorted(lines))).encode()).hexdigest()[:32]
    folder = cache / key
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _new_folder(cache) as made:
            _download(requirements, lines, made)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was quicker
                    raise
    except OSError as error:
        raise ProjectError(f"{error.filename or cache}: {error.strerror}") from error
    return folder


@contextmanager
def _new_folder(cache: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(requirements: Path, lines: Sequence[str], target: Path) -> None:
    """Raises ProjectError, naming the wheels that are not pure if that is why."""
    tried = _pip(lines, target, _ONLY_PURE)
    if tried.returncode == 0:
        return
    with tempfile.TemporaryDirectory(prefix="avf-wheels-") as folder:
        any_wheels = Path(folder)
        if _pip(lines, any_wheels, ()).returncode == 0:
            native = sorted(w.name for w in any_wheels.glob("*.whl") if not _is_pure_name(w.name))
            if native:
                raise ProjectError(
                    f"{requirements}: not pure Python: {', '.join(native)}",
                    "only wheels for any platform (none-any) run in the guest; look for another package, or an older"
                    " version that is pure Python",
                )
    said = ProjectError(_last_words(tried.stderr))
    raise ProjectError(f"{requirements}: pip found no wheels") from said


def _pip(
    lines: Sequence[str], target: Path, options: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Raises ProjectError if there is no pip."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write("\n".join(lines) + "\n")
        wanted.flush()
        command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input"]
        command += ["download", "--quiet", "--only-binary", ":all:", "--dest", str(target)]
        result = subprocess.run(
            [*command, *options, "-r", wanted.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
    if "No module named pip" in result.stderr:
        raise ProjectError(
            "requirements.txt needs pip, which this Python lacks", "apt install python3-pip"
        )
    return result


def _last_words(text: str) -> str:
    marked = "ERROR: "
    errors = [line.removeprefix(marked) for line in text.splitlines() if line.startswith(marked)]
    return "; ".join(errors[-4:] or text.splitlines()[-4:])


def _is_pure_name(name: str) -> bool:
    """By the tags at the end of a wheel's name. Source: PEP 427."""
    tags = name.removesuffix(".whl").split("-")[-3:]
    return len(tags) == 3 and tags[1:] == ["none", "any"]


def unpacked(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of what a pure wheel installs, without its scripts. Raises ProjectError for any other."""
    if not _is_pure_name(wheel.name):
        raise ProjectError(f"{wheel.name} is not pure Python")
    try:
        with zipfile.ZipFile(wheel) as archive:
            _check_amount(wheel, archive)
            _check_metadata(wheel, archive)
            for info in archive.infolist():
                name = None if info.is_dir() else _installed_name(wheel, info.filename)
                if name is not None:
                    yield name, _content(wheel, archive, info)
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError, ValueError) as error:
        raise ProjectError(f"{wheel.name} is damaged: {error}") from error


def _check_amount(wheel: Path, archive: zipfile.ZipFile) -> None:
    infos = archive.infolist()
    size = sum(info.file_size for info in infos)
    if len(infos) > MAX_WHEEL_FILES or size > MAX_WHEEL_BYTES:
        raise ProjectError(
            f"{wheel.name} has {len(infos)} files of {size} bytes, which is too much"
        )


def _check_metadata(wheel: Path, archive: zipfile.ZipFile) -> None:
    names = [info for info in archive.infolist() if _WHEEL_FILE.fullmatch(info.filename)]
    if len(names) != 1 or names[0].file_size > _MAX_METADATA:
        raise ProjectError(f"{wheel.name} is damaged: it has no WHEEL file")
    told = BytesParser().parsebytes(archive.read(names[0]))
    if told.get("Root-Is-Purelib", "").strip().lower() != "true":
        raise ProjectError(f"{wheel.name} is not pure Python: Root-Is-Purelib is not true")


def _installed_name(wheel: Path, name: str) -> str | None:
    """Where a file of a wheel goes; None: nowhere. Source: PEP 427, "Spreading"."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise ProjectError(f"{wheel.name} is damaged: it has a file {name!r}")
    if parts[0].endswith(".data"):
        if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
            return None
        parts = parts[2:]
    return "/".join(parts)


def _content(wheel: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        content = file.read(info.file_size + 1)
    if len(content) > info.file_size:
        raise ProjectError(f"{wheel.name} is damaged: {info.filename!r} is longer than it says")
    if content.startswith(_ELF):
        raise ProjectError(f"{wheel.name} is not pure Python: {info.filename} is an ELF file")
    return content
