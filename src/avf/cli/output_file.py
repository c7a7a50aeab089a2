"""Files that a command writes as a whole, and that it writes over only if they are of the same kind."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avf.cli.text import CliError
from avf.overwriting import Kind, foreign


def check_target(path: Path, kind: Kind) -> None:
    """Makes the file if it is missing, so that it is known beforehand that it can be written. Raises CliError."""
    with _opened(path, kind):
        pass


def write_target(path: Path, text: str, kind: Kind) -> None:
    """Makes the file, or takes the place of one of its kind. Raises CliError; then no part of it is left."""
    data = text.encode("utf-8", "backslashreplace")
    with _opened(path, kind) as fd:
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        try:
            with open(fd, "wb", closefd=False, buffering=0) as file:
                if is_file:
                    file.truncate(0)
                while data:
                    data = data[file.write(data) :]
        except OSError:
            if is_file and not path.is_symlink():
                path.unlink()
            raise


@contextmanager
def _opened(path: Path, kind: Kind) -> Iterator[int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
    try:
        fd = os.open(path, flags, 0o666)
        try:
            if (found := foreign(fd, kind)) is not None:
                raise CliError(f"{path} is no {kind.value}: {found}", "choose another name")
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        raise CliError(f"Failed to write {path}") from error
