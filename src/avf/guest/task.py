"""Finds the program a task names, and how it is to be started."""

import os
from enum import Enum

from avf.guest.config import Task, TaskType
from avf.guest.errors import GuestError
from avf.guest.files import read_bytes
from avf.named import NamedTuple

ABI = "x86_64"
APK = "/mnt/apk"
SEARCHED = (f"lib/{ABI}", "bin", "assets")
"""Where below /mnt/apk a binary's name is looked for, in this order."""

_PYTHON = {("/usr/bin/python3",), ("/usr/bin/env", "python3")}
_MAX_SHEBANG = 256
_MAX_TOLD = 10


class Kind(Enum):
    """How a program is started."""

    LIBRARY = "library"
    """Loaded into the payload process."""
    SCRIPT = "script"
    """Python source, run in the payload process."""
    PROGRAM = "program"
    """Executed."""


class Program(NamedTuple):
    """`arguments` starts with the program itself."""

    kind: Kind
    arguments: tuple[str, ...]


def find_program(task: Task, apk: str = APK) -> Program:
    """Raises GuestError if there is no such file, or it is nothing that can be run."""
    if task.type is TaskType.EXECUTABLE:
        return Program(Kind.PROGRAM, (task.command,))
    if task.command.startswith("/") or ".." in task.command.split("/"):
        raise GuestError(f"Unable to access {task.command}")
    for directory in SEARCHED:
        path = f"{apk}/{directory}/{task.command}"
        if os.path.isfile(path):
            return program_at(path)
    raise GuestError(f"Unable to access {apk}/{SEARCHED[0]}/{task.command}{_what_is_there(apk)}")


def _what_is_there(apk: str) -> str:
    """Where else was looked, and what a payload could be, for the message of one that is not there."""
    names = sorted(
        {
            name
            for directory in SEARCHED
            if os.path.isdir(f"{apk}/{directory}")
            for name in os.listdir(f"{apk}/{directory}")
            if os.path.isfile(f"{apk}/{directory}/{name}")
        }
    )
    there = ", ".join(names[:_MAX_TOLD]) + (", ..." if len(names) > _MAX_TOLD else "")
    return f", nor in bin/ or assets/ of the APK; there are: {there or 'no files'}"


def program_at(path: str) -> Program:
    """A library (`*.so`), a script with a `#!` line, a Python script (`*.py`) or an ELF program."""
    head = read_bytes(path, _MAX_SHEBANG)
    if head.startswith(b"#!"):
        line = head[2:].split(b"\n", 1)[0].decode("utf-8", "replace")
        interpreter = tuple(line.strip().split(None, 1))
        if interpreter in _PYTHON:
            return Program(Kind.SCRIPT, (path,))
        if not interpreter or not os.path.exists(interpreter[0]):
            raise GuestError(
                f"{path} wants the interpreter {line.strip()!r}, which this guest lacks"
            )
        return Program(Kind.PROGRAM, (*interpreter, path))
    if head.startswith(b"\x7fELF"):
        return Program(Kind.LIBRARY if path.endswith(".so") else Kind.PROGRAM, (path,))
    if path.endswith(".py"):
        return Program(Kind.SCRIPT, (path,))
    raise GuestError(f"{path} is no library, no program and no script")
