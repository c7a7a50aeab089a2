"""The way to virtualizationservice: the host's, or the user's own, started when nobody else has."""

import contextlib
import fcntl
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from avf import settings
from avf.aidl.virtualizationservice_internal import IVirtualizationServiceInternal
from avf.aidl.vm_control import Refusal
from avf.binder import BinderError, DeadObjectError, FdMode, Session, connect, unix
from avf.causes import words
from avf.runtime import rotate, service_sockets, user_runtime_dir, user_service_socket
from avf.virtmgr.errors import VirtmgrError

if TYPE_CHECKING:
    import subprocess

    from avf.policy import Policy

IDLE_SECONDS = 5
START_SECONDS = 20
CALL_SECONDS = 30
MAX_CALLS = 16
"""Calls at a time; when the service does not answer, no more wait for it."""
LOCK_POLL_SECONDS = 0.05
_END_SECONDS = 0.5
"""How long a service is waited for that cannot be reached though it says that it is ready, or that has failed."""
_MAX_WORDS = 64 << 10

log = logging.getLogger(__name__)
T = TypeVar("T")


class GlobalServiceError(VirtmgrError):
    """virtualizationservice cannot be reached; the message says what was tried."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Refusal.NO_SERVICE)


class _Call(Generic[T]):
    """Work in a thread of its own, so that whoever waits for it can stop waiting."""

    def __init__(
        self, work: Callable[[], T], discard: Callable[[T], None], on_end: Callable[[], None]
    ) -> None:
        """`discard` gets the result of work that nobody waits for any more. Raises GlobalServiceError."""
        self._work = work
        self._discard = discard
        self._on_end = on_end
        self._ended = threading.Condition()
        self._outcome: tuple[T] | BaseException | None = None
        self._abandoned = False
        thread = threading.Thread(target=self._run, name="global-call", daemon=True)
        try:
            thread.start()
        except RuntimeError as e:
            on_end()
            raise GlobalServiceError(str(e)) from e

    def wait(self, seconds: float) -> T:
        """Raises what the work raises, or GlobalServiceError after `seconds`."""
        with self._ended:
            if not self._ended.wait_for(lambda: self._outcome is not None, seconds):
                self._abandoned = True
            outcome, self._outcome = self._outcome, None
        if outcome is None:
            raise GlobalServiceError(f"virtualizationservice has not answered for {seconds:g} s")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome[0]

    def _run(self) -> None:
        try:
            outcome: tuple[T] | BaseException = (self._work(),)
        except BaseException as e:  # noqa: BLE001  raised again by wait()
            outcome = e
        self._on_end()
        with self._ended:
            if not self._abandoned:
                self._outcome = outcome
                self._ended.notify()
                return
        if not isinstance(outcome, BaseException):
            self._discard(outcome[0])


class GlobalService:
    """A connection to virtualizationservice that is made when needed and made anew after the service has died."""

    def __init__(self, patience: float = CALL_SECONDS) -> None:
        """`patience`: seconds to wait for the service in each call, its start included."""
        self._patience = patience
        self._free_calls = threading.BoundedSemaphore(MAX_CALLS)
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._root: IVirtualizationServiceInternal | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self.is_system = False

    def call(
        self,
        operation: Callable[[IVirtualizationServiceInternal], T],
        discard: Callable[[T], None] = lambda result: None,
    ) -> T:
        """Runs `operation` with the service, once more if the service turns out to be dead.

        Raises GlobalServiceError, or what the operation raises. What is given up because the service does not answer
        may yet have a result, which is given to `discard`.
        """
        if not self._free_calls.acquire(blocking=False):
            raise GlobalServiceError(f"virtualizationservice does not answer {MAX_CALLS} calls")
        call = _Call(lambda: self._call(operation), discard, self._free_calls.release)
        return call.wait(self._patience)

    def _call(self, operation: Callable[[IVirtualizationServiceInternal], T]) -> T:
        root = self._connected()
        try:
            return operation(root)
        except DeadObjectError:
            log.warning("virtualizationservice has died; connecting anew")
            self._forget(root)
            return operation(self._connected())

    def prepare(self) -> None:
        """Connects ahead of need and lifts our limit on locked memory; what fails here shows again when it matters."""
        try:
            self.call(lambda service: service.remove_memlock_rlimit())
        except (BinderError, GlobalServiceError, OSError) as e:
            log.debug("the limit on locked memory stays: %s", e)

    def policy(self) -> "Policy":
        """What the user of this process may do. Raises GlobalServiceError if the policy cannot be read."""
        from avf.policy import PolicyError, load_policy

        self.call(lambda service: None)
        try:
            return load_policy(system=self.is_system)
        except PolicyError as e:
            raise GlobalServiceError(str(e)) from e

    def close(self) -> None:
        with self._lock:
            session, self._session, self._root = self._session, None, None
        if session is not None:
            session.close()

    def _forget(self, root: IVirtualizationServiceInternal) -> None:
        """Lets go of a dead connection, unless another call has put a new one in its place already."""
        with self._lock:
            if self._root is not root:
                return
            session, self._session, self._root = self._session, None, None
        if session is not None:
            session.close()

    def _connected(self) -> IVirtualizationServiceInternal:
        with self._lock:
            if self._root is None:
                session, self.is_system = self._find_or_start()
                try:
                    self._root = session.get_root(IVirtualizationServiceInternal)
                except BaseException:
                    session.close()
                    raise
                self._session = session
            return self._root

    def _find_or_start(self) -> tuple[Session, bool]:
        if found := _find():
            return found
        if (chosen := settings.service_socket()) is not None:
            raise GlobalServiceError(
                f"no virtualizationservice at {chosen}, which AVF_SERVICE_SOCKET names"
            )
        try:
            directory = user_runtime_dir()
        except OSError as e:
            raise GlobalServiceError(f"no virtualizationservice can be started: {words(e)}") from e
        with _sole_starter(directory):
            if found := _find():
                return found
            if self._child is not None:
                self._child.poll()
            log_file = directory / "service.log"
            rotate(log_file)
            before = log_file.stat().st_size if log_file.exists() else 0
            self._child = _start(log_file)
            if found := _find():
                return found
        if said := _last_words(self._child, log_file, before):
            raise GlobalServiceError(f"virtualizationservice could not be started: {said}")
        raise GlobalServiceError(f"virtualizationservice does not answer; see {log_file}")


def _find() -> tuple[Session, bool] | None:
    for path in service_sockets():
        try:
            session = connect(unix(path), fd_mode=FdMode.NONE, timeout=START_SECONDS)
        except TimeoutError as e:
            raise GlobalServiceError(f"virtualizationservice at {path} does not answer") from e
        except (OSError, BinderError) as e:
            log.debug("no service at %s: %s", path, e)
            continue
        return session, path != user_service_socket()
    return None


@contextlib.contextmanager
def _sole_starter(directory: Path) -> Iterator[None]:
    """Of several clients that find no service, one at a time may start it. Raises GlobalServiceError."""
    fd = os.open(
        directory / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _locked(fd):
            if time.monotonic() > deadline:
                raise GlobalServiceError(
                    f"somebody has held {directory}/start.lock for {START_SECONDS} s"
                    " and started no virtualizationservice"
                )
            time.sleep(LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(log_file: Path) -> "subprocess.Popen[bytes]":
    """Starts the user's service in a session of its own; returns when it is ready, or has failed, or takes too long."""
    import subprocess

    ready, ready_child = os.pipe()
    with open(ready, "rb") as waiting, log_file.open("ab") as output:
        try:
            child = subprocess.Popen(
                [
                    *(sys.executable, "-m", "avf.virtualizationservice", "--user"),
                    f"--log-file={log_file}",
                    f"--idle-timeout={IDLE_SECONDS}",
                    f"--ready-fd={ready_child}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(ready_child,),
                start_new_session=True,
                cwd="/",
            )
        finally:
            os.close(ready_child)
        if not select.select([waiting], [], [], START_SECONDS)[0]:
            log.error("virtualizationservice is not ready after %d s", START_SECONDS)
    return child


def _last_words(child: "subprocess.Popen[bytes]", log_file: Path, start: int) -> str:
    """The last line that a service has written that ended at once; nothing if it runs."""
    import subprocess

    try:
        status = child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        return ""
    try:
        with log_file.open("rb") as file:
            file.seek(start)
            lines = file.read(_MAX_WORDS).decode(errors="replace").split("\n")
    except OSError:
        lines = []
    words = next((line for line in reversed(lines) if line.strip()), "")
    return words.removeprefix("virtualizationservice: ") or f"it exited with status {status}"
