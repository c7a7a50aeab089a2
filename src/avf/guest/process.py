"""The payload's process: forked before the agent knows anything, told later what to run, and waited for."""

import marshal
import os
import sys
from collections.abc import Callable, Sequence

from avf.guest import PAYLOAD_ID
from avf.guest.errors import PayloadKilled
from avf.guest.report import say
from avf.guest.task import Kind, Program
from avf.guest.user import become_payload_user

_MAX_FD = 1 << 16
_READ_AT_THE_START = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "GLIBC_TUNABLES", "LOCPATH", "TZ")
"""How variables begin that loader, C library and interpreter look at once; here they have done so before."""


class Process:
    """A process that waits to be told its program.

    A fork has its parent's memory: whatever the agent learns after this is out of the payload's reach. It has the
    agent's imports, too, which saves the start of an interpreter.
    """

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        self.errors, errors = os.pipe()
        """Where the payload's standard error can be read, if `start` keeps it apart."""
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._orders)
            _run_child(lambda: _wait_and_run(orders, errors))
        os.close(orders)
        os.close(errors)

    def start(
        self,
        program: Program,
        *,
        as_root: bool = False,
        environment: Sequence[tuple[str, str]] = (),
        errors_apart: bool = False,
    ) -> None:
        """Lets it run `program` as the payload's user, or with all the rights of the agent. Once only.

        `environment`: variables beside, and in place of, the guest's own. `errors_apart`: its standard error goes to
        `errors`, and not where its standard output goes.
        """
        orders = (program.kind.value, program.arguments, as_root, tuple(environment), errors_apart)
        _write_all(self._orders, marshal.dumps(orders))
        os.close(self._orders)

    def wait(self) -> int:
        """The exit code. Raises PayloadKilled if a signal ended the program."""
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            raise PayloadKilled(os.WTERMSIG(status))
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
        say(f"payload: {type(error).__name__}: {error}")
    finally:
        os._exit(code)


def _wait_and_run(orders: int, errors: int) -> None:
    try:
        with open(orders, "rb") as file:
            kind, arguments, as_root, environment, errors_apart = marshal.load(file)
    except EOFError:
        return  # the agent gave up before the start
    if errors_apart:
        os.fchown(errors, PAYLOAD_ID, PAYLOAD_ID)  # so that it can open /dev/stderr
        os.dup2(errors, 2)
    os.closerange(3, _MAX_FD)
    _be_unlike_others()
    os.setsid()
    _restore_signals()
    if not as_root:
        become_payload_user()
    os.environ.update(environment)
    _run(_heeding(environment, Program(Kind(kind), arguments)))


def _heeding(environment: Sequence[tuple[str, str]], program: Program) -> Program:
    """A script for which a variable comes too late in this process gets an interpreter that is started with it."""
    late = [name for name, _ in environment if name.startswith(_READ_AT_THE_START)]
    if any(name.startswith("TZ") for name in late):
        import time

        time.tzset()
    if late and program.kind is Kind.SCRIPT:
        return Program(Kind.PROGRAM, (sys.executable, *program.arguments))
    return program


def _be_unlike_others() -> None:
    """Clones of one template were forked from it with the same state of the random number generator."""
    random = sys.modules.get("random")
    if random is not None:
        random.seed()


def _run(program: Program) -> None:
    if program.kind is Kind.LIBRARY:
        from avf.guest.launcher import exit_process, run_library

        exit_process(run_library(program.arguments))
    if program.kind is Kind.SCRIPT:
        from avf.guest.script import run_script

        run_script(program.arguments)
    os.execvp(program.arguments[0], program.arguments)


def _restore_signals() -> None:
    import signal

    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
