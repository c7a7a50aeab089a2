"""Finds the program a task names, starts it in a process of its own and waits for its end."""

import os
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from avf.guest import libc
from avf.guest.config import Task, TaskType
from avf.guest.errors import GuestError
from avf.guest.report import log

ABI = "x86_64"
APK = "/mnt/apk"
SEARCHED = (f"lib/{ABI}", "bin", "assets")
"""Where below /mnt/apk a binary's name is looked for, in this order."""

_PYTHON = {("/usr/bin/python3",), ("/usr/bin/env", "python3")}
_PYTHON_PATH = "/usr/lib/avf/python:/usr/lib/avf/stdlib.zip"
_MAX_SHEBANG = 256


class Kind(Enum):
    """How a program is started."""

    LIBRARY = "library"
    """Loaded into a process forked from the agent."""
    SCRIPT = "script"
    """Python source, run in a process forked from the agent."""
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
    raise GuestError(f"Unable to access {apk}/{SEARCHED[0]}/{task.command}")


def program_at(path: str) -> Program:
    """A library (`*.so`), a script with a `#!` line, a Python script (`*.py`) or an ELF program."""
    with open(path, "rb") as file:
        head = file.read(_MAX_SHEBANG)
    if head.startswith(b"#!"):
        line = head[2:].split(b"\n", 1)[0].decode("utf-8", "replace")
        interpreter = tuple(line.strip().split(None, 1))
        if interpreter in _PYTHON:
            return Program(Kind.SCRIPT, (path,))
        return Program(Kind.PROGRAM, (*interpreter, path))
    if head.startswith(b"\x7fELF"):
        return Program(Kind.LIBRARY if path.endswith(".so") else Kind.PROGRAM, (path,))
    if path.endswith(".py"):
        return Program(Kind.SCRIPT, (path,))
    raise GuestError(f"{path} is no library, no program and no script")


class Process:
    """A process forked at once that runs its program only when told to: so the agent forks before it has threads."""

    def __init__(self, program: Program) -> None:
        self._program = program
        read_end, self._go = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._go)
            _run_child(lambda: _wait_and_run(read_end, program))
        os.close(read_end)

    def start(self) -> None:
        """Lets the program run. Once only."""
        os.write(self._go, b"g")
        os.close(self._go)

    def wait(self) -> int:
        """The exit code. Raises GuestError if a signal ended the program."""
        import signal

        _, status = os.waitpid(self._pid, 0)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            name = (
                signal.strsignal(number)
                if number >= signal.SIGRTMIN
                else signal.Signals(number).name
            )
            raise GuestError(f"Payload exited due to signal: {number} ({name})")
        return os.WEXITSTATUS(status)


def fork_helper(run: Callable[[], None]) -> int:
    """The pid of a child that does `run` and ends."""
    pid = os.fork()
    if pid == 0:
        _run_child(run)
    return pid


def _run_child(run: Callable[[], None]) -> None:
    """Never returns: whatever happens in a child must not become a second agent."""
    code = 127
    try:
        run()
        code = 0
    except BaseException as error:  # noqa: BLE001
        log(f"child: {type(error).__name__}: {error}")
    finally:
        os._exit(code)


def _wait_and_run(go: int, program: Program) -> None:
    if os.read(go, 1) != b"g":
        return  # the agent gave up before the start
    os.closerange(3, 1 << 12)
    _restore_signals()
    libc.drop_capabilities()
    if program.kind is Kind.LIBRARY:
        from avf.guest.launcher import exit_process, run_library

        exit_process(run_library(program.arguments[0]))
    os.environ |= {"PYTHONPATH": _PYTHON_PATH, "PYTHONUNBUFFERED": "1"}
    if program.kind is Kind.SCRIPT:
        from avf.guest.script import run_script

        os._exit(run_script(program.arguments[0]))
    os.execvp(program.arguments[0], program.arguments)


def _restore_signals() -> None:
    import signal

    for number in (signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
