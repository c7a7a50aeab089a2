"""Children that die with this process, even when it is killed.

A child's parent-death signal fires when the *thread* that forked it ends, so every child is forked by one thread that
lives as long as the process. `setpriv` sets the signal; a shell then makes sure that the parent was still there.
"""

import os
import resource
import select
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

from avf.causes import words
from avf.confine.box import Box, ConfinementError, Limits
from avf.confine.family import children_of, parent_of

if TYPE_CHECKING:
    import subprocess

    from avf.confine.sandbox import Sandbox

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
_CHECK_PARENT = '[ "$PPID" = "$0" ] || exit 125'
_LIMITS = "trap '' XFSZ; ulimit -c 0 && ulimit -n {descriptors} && ulimit -f {blocks} || exit 125; "
_EXECUTE = 'exec "$@"'
_ULIMIT_BLOCK = 512
"""The unit of `ulimit -f`, by POSIX."""
_LOOK_INTERVAL = 0.001
_SIGNALLED = 128
"""bubblewrap ends with this plus the signal that ended what it had started."""


class SpawnError(Exception):
    """A child cannot be started."""


class Child:
    """One child process; whoever sees `fileno` become readable calls `reap`, exactly one caller at a time.

    In full confinement the child is bubblewrap, which lives as long as the program in its sandbox.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._lock = threading.Lock()
        self._pidfd: int | None = os.pidfd_open(process.pid)
        self._sandbox: Sandbox | None = None
        self._settling = threading.Lock()
        self._settled = False
        self._init: int | None = None
        self._init_pidfd: int | None = None
        """Of the sandbox's first process, with which all of it ends."""
        self._pid: int | None = None

    def in_sandbox(self, sandbox: "Sandbox") -> None:
        """The child is bubblewrap, which makes that sandbox."""
        self._sandbox = sandbox

    def settle(self) -> None:
        """Waits until the sandbox has its first process, and closes what making it took. Only the first call does."""
        with self._settling:
            if self._sandbox is None or self._settled:
                return
            self._settled = True
            pid = self._sandbox.first_process(self.fileno())
            if pid is None:
                return  # bubblewrap has failed, and ends
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            if parent_of(pid) == self._process.pid:
                self._init, self._init_pidfd = pid, pidfd
            else:
                os.close(pidfd)

    def end_lending(self) -> None:
        """The program has opened what it was lent. Idempotent."""
        if self._sandbox is not None:
            self._sandbox.lenders.close()

    @property
    def pid(self) -> int:
        """The program's process as it is seen from here. In a sandbox that is about to begin, this waits for it."""
        if self._pid is None:
            self._pid = self._find_program()
        return self._pid

    def _find_program(self) -> int:
        self.settle()
        if self._init is None:
            return self._process.pid
        while not self.has_ended():
            if found := children_of(self._init):
                return found[0]
            time.sleep(_LOOK_INTERVAL)
        return self._init

    def fileno(self) -> int:
        """A descriptor that is readable once the child has ended. Valid until `reap`."""
        if self._pidfd is None:
            raise ValueError("the child is reaped")
        return self._pidfd

    def kill(self) -> None:
        """SIGKILL; nothing happens if the child is gone."""
        if not self.has_ended():
            self.settle()
        with self._lock:
            target = self._pidfd if self._init_pidfd is None else self._init_pidfd
            if target is not None:
                try:
                    signal.pidfd_send_signal(target, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def hold(self, held: bool) -> None:
        """Has the program stand still, or go on. Nothing happens if it is gone."""
        pid = self.pid
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            # else it has ended, and the number is another's
            if pid == self._process.pid or parent_of(pid) in (self._init, self._process.pid):
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP if held else signal.SIGCONT)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)

    def kill_unless_ended(self) -> None:
        """Kills a child that has not ended by itself, so that its own exit status survives."""
        if not self.has_ended():
            self.kill()

    def has_ended(self) -> bool:
        """Whether the child has ended, reaped or not."""
        with self._lock:
            if self._pidfd is None:
                return True
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return bool(poll.poll(0))

    def reap(self) -> int:
        """Waits for the end of the child and returns its status as subprocess does."""
        if self._sandbox is not None:
            self.settle()
        status = self._process.wait()
        self.end_lending()
        if (init := self._init_pidfd) is not None:
            _await_end(init)  # bubblewrap may end a moment earlier
        with self._lock:
            for pidfd in (self._pidfd, self._init_pidfd):
                if pidfd is not None:
                    os.close(pidfd)
            self._pidfd = self._init_pidfd = None
        if self._sandbox is not None and _SIGNALLED < status < _SIGNALLED + signal.NSIG:
            return _SIGNALLED - status
        return status

    def abort(self) -> None:
        """Kills and reaps."""
        self.kill()
        self.reap()


def _await_end(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()


def spawn(
    command: Sequence[str],
    *,
    fds: Sequence[int],
    stderr: int,
    box: Box | None = None,
    environment: Mapping[str, str] = {},
) -> Child:
    """Starts `command` (an absolute program and its arguments) with no descriptor but `fds` and the standard ones.

    Standard input and output are /dev/null. The child leads its own session, so a terminal's signals pass it by. With
    a `box` it is confined as tightly as `explain_confinement` says. Raises ConfinementError if it cannot be, SpawnError
    if the system refuses the rest.
    """
    if any("\0" in argument for argument in command):
        raise SpawnError("an argument contains NUL")
    with ExitStack() as stack, ExitStack() as undo:
        try:
            confined = _confine(box, command, stack, undo)
            inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            variables = inherited | {"LC_ALL": "C"} | dict(environment)
            child = _start(
                [*_launcher(box), *confined.command], [*fds, *confined.fds], stderr, variables
            )
            if confined.sandbox is not None:
                confined.sandbox.release()
                child.in_sandbox(confined.sandbox)
            undo.pop_all()
            return child
        except OSError as error:
            raise SpawnError(f"cannot start {command[0]}: {words(error)}") from error


@dataclass(slots=True)
class _Confined:
    """A command within its walls."""

    command: list[str]
    fds: list[int] = field(default_factory=list)
    """To be inherited besides."""
    sandbox: "Sandbox | None" = None


def _confine(
    box: Box | None, command: Sequence[str], stack: ExitStack, undo: ExitStack
) -> _Confined:
    if box is None:
        return _Confined(list(command))
    from avf.confine.levels import Level, explain_confinement

    level = explain_confinement().level
    if level is Level.FULL:
        from avf.confine.bubblewrap import full_command
        from avf.confine.sandbox import Sandbox

        sandbox = Sandbox()
        undo.callback(sandbox.close)
        words, fds = full_command(
            box, command, sandbox.info, stack, sandbox.helpers, sandbox.lenders
        )
        return _Confined(words, fds, sandbox)
    if level is Level.LIMITED:
        from avf.confine.limited import limited_command

        return _Confined(limited_command(box, command))
    return _Confined(list(command))


def _launcher(box: Box | None) -> list[str]:
    """The programs through which a child goes before it is what it is to be."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfinementError("setpriv is not installed (Debian package util-linux)")
    limits = _LIMITS.format(**_within_ours(box.limits)) if box is not None else ""
    script = f"{_CHECK_PARENT}; {limits}{_EXECUTE}"
    return [setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", script, str(os.getpid())]


def _within_ours(limits: Limits) -> dict[str, int]:
    """What the child may be limited to, given that hard limits can only be lowered."""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, size = resource.getrlimit(resource.RLIMIT_FSIZE)
    if descriptors == resource.RLIM_INFINITY:
        descriptors = limits.descriptors
    if size == resource.RLIM_INFINITY:
        size = limits.file_size
    return {
        "descriptors": min(limits.descriptors, descriptors),
        "blocks": min(-(-limits.file_size // _ULIMIT_BLOCK), max(1, size // _ULIMIT_BLOCK)),
    }


def _start(
    command: Sequence[str], fds: Sequence[int], stderr: int, environment: Mapping[str, str]
) -> Child:
    import subprocess  # slow to import, and not needed before the first VM starts

    def start() -> Child:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=fds,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
        try:
            return Child(process)
        except OSError:
            process.kill()
            process.wait()
            raise

    return _spawner().run(start)


class _Order:
    """One piece of work for the spawner, and its outcome."""

    def __init__(self, work: Callable[[], Child]) -> None:
        self._work = work
        self._done = threading.Event()
        self._outcome: Child | BaseException | None = None

    def carry_out(self) -> None:
        try:
            self._outcome = self._work()
        except BaseException as error:  # noqa: BLE001  raised again by result()
            self._outcome = error
        self._done.set()

    def result(self) -> Child:
        self._done.wait()
        if isinstance(self._outcome, Child):
            return self._outcome
        assert self._outcome is not None
        raise self._outcome


class _Spawner:
    """The thread that forks. It never ends before the process does."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[_Order] = SimpleQueue()
        threading.Thread(target=self._work, name="spawner", daemon=True).start()

    def run(self, work: Callable[[], Child]) -> Child:
        order = _Order(work)
        self._orders.put(order)
        return order.result()

    def _work(self) -> None:
        while True:
            self._orders.get().carry_out()


_instance: _Spawner | None = None
_instance_lock = threading.Lock()


def _spawner() -> _Spawner:
    global _instance
    with _instance_lock:
        if _instance is None:
            _instance = _Spawner()
        return _instance


def _forget_spawner() -> None:
    """A forked copy of this process has no such thread."""
    global _instance, _instance_lock
    _instance = None
    _instance_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_spawner)
