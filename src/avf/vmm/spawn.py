"""Children that die with this process, even when it is killed.

A child's parent-death signal fires when the *thread* that forked it ends, so every child is forked by one thread that
lives as long as the process. `setpriv` sets the signal; a shell then makes sure that the parent was still there.
"""

import os
import select
import shutil
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

from avf.vmm.base import VmmStartError, VmmUnavailable

if TYPE_CHECKING:
    import subprocess

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
_CHECK_PARENT = '[ "$PPID" = "$0" ] || exit 125; exec "$@"'


class Child:
    """One child process; whoever sees `fileno` become readable calls `reap`, exactly one caller at a time."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._lock = threading.Lock()
        self._pidfd: int | None = os.pidfd_open(process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """A descriptor that is readable once the child has ended. Valid until `reap`."""
        if self._pidfd is None:
            raise ValueError("the child is reaped")
        return self._pidfd

    def kill(self) -> None:
        """SIGKILL; nothing happens if the child is gone."""
        with self._lock:
            if self._pidfd is not None:
                try:
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def kill_unless_ended(self) -> None:
        """Kills a child that has not ended by itself, so that its own exit status survives."""
        if not self.has_ended():
            self.kill()

    def has_ended(self) -> bool:
        with self._lock:
            if self._pidfd is None:
                return True
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return bool(poll.poll(0))

    def reap(self) -> int:
        """Waits for the end of the child and returns its status as subprocess does."""
        status = self._process.wait()
        with self._lock:
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None
        return status

    def abort(self) -> None:
        """Kills and reaps."""
        self.kill()
        self.reap()


def spawn(
    command: Sequence[str], *, fds: Sequence[int], stderr: int, environment: Mapping[str, str] = {}
) -> Child:
    """Starts `command` (an absolute program and its arguments) with no descriptor but `fds` and the standard ones.

    Standard input and output are /dev/null. The child leads its own session, so a terminal's signals pass it by.
    Raises VmmUnavailable without setpriv, VmmStartError if the system refuses.
    """
    import subprocess  # slow to import, and not needed before the first VM starts

    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise VmmUnavailable("setpriv is not installed (Debian package util-linux)")
    if any("\0" in argument for argument in command):
        raise VmmStartError("an argument contains NUL")
    parent = str(os.getpid())
    launcher = [setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", _CHECK_PARENT, parent]

    def start() -> Child:
        inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        process = subprocess.Popen(
            [*launcher, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=fds,
            cwd="/",
            env=inherited | {"LC_ALL": "C"} | dict(environment),
            start_new_session=True,
        )
        try:
            return Child(process)
        except OSError:
            process.kill()
            process.wait()
            raise

    try:
        return _spawner().run(start)
    except OSError as error:
        raise VmmStartError(f"cannot start {command[0]}: {error}") from error


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
        threading.Thread(target=self._work, name="vmm-spawner", daemon=True).start()

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
