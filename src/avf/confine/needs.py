"""Which files a program needs before it is handed anything: itself, its libraries, and what it looks up."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from avf import facts
from avf.causes import words
from avf.confine.box import ConfinementError

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/opt")
"""Where folders of libraries may be shown as a whole."""
_FOR_SCRIPTS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives")
_LOADER_CACHE = "/etc/ld.so.cache"
_TIMEOUT = 10.0
_MAX_SHEBANG = 256


def needs_of(program: str) -> list[Path]:
    """The program, what interprets it, and the libraries it is linked with.

    Libraries below the system's folders are named by their folder. A script's needs cannot be known: it gets the
    system's programs. Raises ConfinementError if the program cannot be read.
    """
    path = Path(program)
    try:
        with path.open("rb") as file:
            head = file.read(_MAX_SHEBANG)
    except OSError as error:
        raise ConfinementError(f"{program} cannot be read: {error.strerror}") from error
    found = [path, path.resolve()]
    if head.startswith(b"#!"):
        interpreter = head[2:].split(b"\n", 1)[0].split()
        found += [Path(name) for name in _FOR_SCRIPTS]
        if interpreter and (name := os.fsdecode(interpreter[0])) != program:
            found += _interpreter(name)
        return existing(found)
    return existing([*found, *_libraries(program)])


def remembered(program: str, find: Callable[[], Iterable[Path]]) -> tuple[Path, ...]:
    """The paths that `find` gives for `program`, found once per boot and version of the program.

    Raises OSError, and whatever `find` raises.
    """
    status = Path(program).stat()
    key = f"needs:{program}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    known = facts.recall(key)
    if isinstance(known, list) and all(isinstance(path, str) for path in known):
        return tuple(Path(path) for path in known)
    found = existing(find())
    facts.remember(key, [str(path) for path in found])
    return tuple(found)


def python_needs(package: Path) -> list[Path]:
    """What this interpreter needs to run a module of `package`, without site-packages.

    Raises ConfinementError or OSError.
    """
    interpreter = os.path.realpath(sys.executable)
    return existing([*remembered(interpreter, lambda: _own_needs(interpreter)), package])


def _own_needs(interpreter: str) -> list[Path]:
    import sysconfig

    bases = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    bases |= {"installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix}
    folders = [Path(sysconfig.get_path(name, vars=bases)) for name in ("stdlib", "platstdlib")]
    return [*needs_of(interpreter), *folders]


def existing(paths: Iterable[Path]) -> list[Path]:
    """Those that exist, each once, without those that lie in another one."""
    kept: list[Path] = []
    for path in sorted({Path(os.path.normpath(path)) for path in paths}):
        if path.exists() and not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def _interpreter(name: str) -> list[Path]:
    path = Path(name)
    if path.resolve() == Path(sys.executable).resolve():
        return [path, Path(sys.prefix), Path(sys.base_prefix), *_libraries(str(path.resolve()))]
    return [path, path.resolve(), *_libraries(name)]


def _libraries(program: str) -> list[Path]:
    """As ldd finds them; none of a program that is linked statically."""
    import subprocess  # slow to import, and not needed before the first VM starts

    try:
        result = subprocess.run(
            ["ldd", program],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfinementError(
            f"the libraries of {program} cannot be listed: {words(error)}"
        ) from error
    found = [Path(_LOADER_CACHE)]
    for line in result.stdout.splitlines():
        for word in line.split():
            if word.startswith("/"):
                found += _library(Path(word))
    return found


def _library(path: Path) -> list[Path]:
    real = path.resolve()
    return [_folder_or_file(path), _folder_or_file(real)]


def _folder_or_file(path: Path) -> Path:
    whole = any(path.is_relative_to(system) for system in _SYSTEM)
    return path.parent if whole else path
