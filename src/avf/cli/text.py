"""How things are written on the terminal: errors, hints, and the forms that scripts read."""

import os
import re
import shutil
from pathlib import Path

from avf.causes import words
from avf.printable import escaped, printable, printable_lines

_MAX_CAUSES = 16


class CliError(Exception):
    """What a command has to say itself; `hint` is what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NotCreated(CliError):
    """There was no VM: nothing of it has run."""


def error_text(error: BaseException) -> str:
    """What failed, why, and what to try, each on lines of its own."""
    from avf.cli import remedies

    chain = error_chain(error)
    remedy = hint_for(error)
    if not remedy and not _is_told_by_a_service(error):
        remedy = remedies.system_remedy_for(chain)
    return chain + (f"\n  try: {as_typed_here(remedy)}" if remedy else "")


def _is_told_by_a_service(error: BaseException | None) -> bool:
    """What the system refused it need not be a path that the user has given."""
    from avf.binder import RemoteException
    from avf.client import ServiceError

    while error is not None:
        if isinstance(error, RemoteException | ServiceError):
            return True
        error = error.__cause__
    return False


def as_typed_here(remedy: str) -> str:
    """Without sudo where there is none, which root does not miss; others are told whose command it is."""
    plain = re.sub(r"\bsudo ", "", remedy)
    if plain == remedy or shutil.which("sudo") is not None:
        return remedy
    return plain if os.getuid() == 0 else f"as root: {plain}"


def error_chain(error: BaseException) -> str:
    """The error and, below it, what led to it; nothing is said twice."""
    texts: list[str] = []
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen and len(seen) < _MAX_CAUSES:
        seen.append(cause)
        for text in _texts(cause):
            news = text.removeprefix(f"{texts[-1]}: ") if texts else text
            if not any(news in said for said in texts):
                texts.append(news)
        cause = cause.__cause__
    return "\n  because: ".join(texts)


def _texts(error: BaseException) -> list[str]:
    """One line each, but for what a process of ours said on its standard error, whose lines are set in."""
    from avf.binder import ExceptionCode, RemoteException
    from avf.client import ServiceError, split_message

    if isinstance(error, RemoteException):
        problem, causes = split_message(error.message or "the service refused")
        if error.code is not ExceptionCode.SERVICE_SPECIFIC:
            problem += f" ({error.code.name})"
        return [printable(text) for text in (problem, *causes)]
    if isinstance(error, ServiceError):
        return [printable_lines(str(error)).replace("\n", "\n    ")]
    return [printable(words(error))]


def hint_for(error: BaseException | None) -> str | None:
    """What to do about `error`, if anything is known to help."""
    from avf.binder import ExceptionCode, RemoteException, StatusError
    from avf.cli import remedies
    from avf.client import NoSuchVm, ServiceError, remedy_for

    while error is not None:
        if isinstance(error, CliError) and error.hint:
            return error.hint
        if isinstance(error, RemoteException) and error.code == ExceptionCode.SECURITY:
            return "`vm doctor` shows which permissions you have, and where they are granted"
        if remedy := remedy_for(str(error)) or remedies.remedy_for(str(error)):
            return remedy
        if isinstance(error, StatusError):
            return error.remedy or "`-v` shows what virtmgr logged about it"
        if isinstance(error, NoSuchVm):
            return "`vm list` shows the VMs of this host"
        if isinstance(error, ServiceError):
            return error.remedy
        error = error.__cause__
    return None


def quoted(value: str | Path) -> str:
    """As Rust's debug form writes a string; scripts that read AVF's output expect that."""
    return '"' + "".join(map(_quoted_char, str(value))) + '"'


def _quoted_char(char: str) -> str:
    if char in '\\"':
        return f"\\{char}"
    return char if char.isprintable() else escaped(char)
