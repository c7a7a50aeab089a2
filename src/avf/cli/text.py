"""How things are written on the terminal: errors, hints, and the forms that scripts read."""

import os
from pathlib import Path

from avf.printable import escaped, printable, printable_lines


class CliError(Exception):
    """What a command has to say itself; `hint` is what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def error_chain(error: BaseException) -> str:
    """The error and, below "Caused by:", what led to it."""
    texts = [_text(error)]
    causes = []
    while (error := error.__cause__) is not None:  # type: ignore[assignment]
        text = _text(error)
        if text not in texts[-1]:
            causes.append(text)
            texts.append(text)
    if not causes:
        return texts[0]
    lines = causes if len(causes) == 1 else [f"{n}: {text}" for n, text in enumerate(causes)]
    return f"{texts[0]}\n\nCaused by:\n" + "\n".join(f"    {line}" for line in lines)


def _text(error: BaseException) -> str:
    """One line, but for what a process of ours said on its standard error, whose lines are set in."""
    from avf.binder import RemoteException
    from avf.client import ServiceError

    if isinstance(error, RemoteException):
        return printable(f"{error.message or 'the service refused'} ({error.code.name})")
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{_path(error.filename)}: "
        return printable(f"{where}{error.strerror}")
    if isinstance(error, ServiceError):
        return printable_lines(str(error)).replace("\n", "\n    ")
    return printable(str(error)) or type(error).__name__


def _path(name: object) -> str:
    """A path as an OSError has it: text, bytes or, of a descriptor, a number."""
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


def hint_for(error: BaseException | None) -> str | None:
    """What to do about `error`, if anything is known to help."""
    from avf.binder import ExceptionCode, RemoteException, StatusError
    from avf.client import NoSuchVm, ServiceError

    while error is not None:
        if isinstance(error, CliError) and error.hint:
            return error.hint
        if isinstance(error, RemoteException) and error.code == ExceptionCode.SECURITY:
            return "`vm doctor` shows which permissions you have, and where they are granted."
        if isinstance(error, RemoteException) and "memoryMib is " in error.message:
            return "`--mem` says how much memory the VM gets; without it, the image does."
        if isinstance(error, RemoteException) and "guest image" in error.message:
            return "`vm doctor` says how to get one; `--image` names its folder."
        if isinstance(error, StatusError):
            return "this is a mistake in virtmgr, which logged more about it: `-v` shows that."
        if isinstance(error, NoSuchVm):
            return "`vm list` shows the VMs of this host."
        if isinstance(error, ServiceError):
            return "`vm doctor` checks what this host lacks."
        error = error.__cause__
    return None


def quoted(value: str | Path) -> str:
    """As Rust's debug form writes a string; scripts that read AVF's output expect that."""
    return '"' + "".join(map(_quoted_char, str(value))) + '"'


def _quoted_char(char: str) -> str:
    if char in '\\"':
        return f"\\{char}"
    return char if char.isprintable() else escaped(char)
