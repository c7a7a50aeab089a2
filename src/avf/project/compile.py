"""Compiles C source to a payload library. The compiler is the host's; none of the project's own commands runs."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from avf.project.errors import ProjectError
from avf.sdk import cflags, libs

_OPTIONS = ("-shared", "-fPIC", "-O2", "-g", "-Wall", "-Wl,-rpath,$ORIGIN")


def compile_library(sources: Sequence[Path], target: Path) -> None:
    """What the compiler says goes to standard error. Raises ProjectError."""
    command = [*_compiler(), *_OPTIONS, *cflags(), "-o", str(target)]
    command += [*(str(source.absolute()) for source in sources), *libs()]
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
