"""Where a password comes from, in apksigner's words: `env:NAME`, `file:PATH`, or asked for at the terminal."""

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path

from avf.apk.errors import SigningError

_MAX_FILE = 4096


def password_source(spec: str) -> Callable[[], bytes]:
    """Check the form of `spec` and return what gets the password. ValueError if the form is unknown.

    A file holds the password in its first line. Getting raises SigningError if the variable is not set, OSError if
    the file cannot be read.
    """
    kind, _, value = spec.partition(":")
    if kind == "env" and value:
        return lambda: _from_environment(value)
    if kind == "file" and value:
        return lambda: _from_file(Path(value))
    raise ValueError("a password is given as env:NAME or file:PATH")


def ask(what: str) -> bytes:
    """Ask for the password of `what` at the terminal; SigningError if there is none."""
    if not sys.stdin.isatty():
        raise SigningError("it is encrypted, and no password is given", file=what)
    return getpass.getpass(f"Password of {what}: ").encode()


def _from_environment(name: str) -> bytes:
    value = os.environ.get(name)
    if value is None:
        raise SigningError(f"the environment variable {name} with the password is not set")
    return os.fsencode(value)


def _from_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_FILE).split(b"\n", 1)[0].rstrip(b"\r")
