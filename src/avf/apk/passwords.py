"""Where passwords come from, in apksigner's words: `pass:PASSWORD`, `env:NAME`, `file:PATH`, `stdin`, or asked for."""

import getpass
import os
import sys
from pathlib import Path

from avf.apk.errors import SigningError
from avf.apk.files import read_small
from avf.printable import printable

FORMS = "pass:PASSWORD, env:NAME, file:PATH or stdin"
_MAX_LINE = 4096


def check_source(text: str) -> str:
    """`text`, if it says where a password comes from; ValueError if not."""
    kind, colon, value = text.partition(":")
    if text != "stdin" and not (
        kind in ("pass", "env", "file") and colon and (value or kind == "pass")
    ):
        raise ValueError(f"a password is given as {FORMS}")
    return text


class Passwords:
    """The passwords of one command. A file or standard input that is named again goes on with its next line."""

    def __init__(self) -> None:
        self._lines: dict[str, list[bytes]] = {}

    def get(self, source: str) -> str:
        """The password of a source that `check_source` accepts.

        SigningError if the variable is not set or there is no further line, OSError if the file cannot be read.
        """
        kind, _, value = source.partition(":")
        if kind == "pass":
            return value
        if kind == "env":
            return _from_environment(value)
        return self._next_line(value if kind == "file" else "")

    def ask(self, what: str) -> str:
        """Ask for the password of `what` at the terminal; SigningError if there is none."""
        if not sys.stdin.isatty():
            raise SigningError("it is encrypted, and no password is given", file=what)
        return getpass.getpass(f"Password of {printable(what)}: ")

    def _next_line(self, path: str) -> str:
        """The next line of a file, or of standard input for an empty path."""
        if not path:
            line = sys.stdin.buffer.readline(_MAX_LINE)
        else:
            if path not in self._lines:
                self._lines[path] = read_small(Path(path)).splitlines()
            left = self._lines[path]
            line = left.pop(0) if left else b""
        if not line:
            raise SigningError("it has no further line with a password", file=path or "stdin")
        return _text(line.rstrip(b"\r\n"))


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise SigningError(f"the environment variable {name} with the password is not set")
    return _text(os.fsencode(value))


def _text(data: bytes) -> str:
    """UTF-8, or else each byte as a character, as Java takes bytes that it cannot decode otherwise."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
