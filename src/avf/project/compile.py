"""Compiles C and C++ source to a payload. The compiler is the host's; none of the project's own commands runs."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from avf.project.errors import ProjectError
from avf.project.source import CPP_SUFFIXES
from avf.sdk import cflags, libs

_OPTIONS = ("-O2", "-g", "-Wall", "-Wl,-rpath,$ORIGIN")
_LIBRARY = ("-shared", "-fPIC")


def compile_c(sources: Sequence[Path], target: Path, *, is_library: bool) -> None:
    """To a library or a program. What the compiler says goes to standard error. Raises ProjectError."""
    kind = _LIBRARY if is_library else ()
    command = [*_compiler(), *kind, *_OPTIONS, *cflags(), "-o", str(target)]
    command += [str(source.absolute()) for source in sources]
    command += libs() if is_library else []
    if any(source.suffix in CPP_SUFFIXES for source in sources):
        command.append("-lstdc++")
    try:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        raise ProjectError(f"cannot run {command[0]}: {error.strerror}") from error
    if status:
        names = ", ".join(str(source) for source in sources)
        raise ProjectError(f"{command[0]} could not compile {names}")


def _compiler() -> list[str]:
    """`$CC`, else the host's."""
    if chosen := shlex.split(os.environ.get("CC", "")):
        return chosen
    for name in ("cc", "gcc", "clang"):
        if (found := shutil.which(name)) is not None:
            return [found]
    raise ProjectError("no C compiler was found", "apt install gcc libc6-dev, or set CC")
