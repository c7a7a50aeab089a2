"""The way to virtualizationservice: the host's, or the user's own, started when nobody else has."""

import contextlib
import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from avf.aidl.virtualizationservice_internal import IVirtualizationServiceInternal
from avf.binder import BinderError, DeadObjectError, FdMode, Session, connect, unix
from avf.policy import Policy, PolicyError, load_policy
from avf.runtime import SERVICE_SOCKET_NAME, service_sockets, user_runtime_dir

IDLE_SECONDS = 5
START_SECONDS = 20

log = logging.getLogger(__name__)
T = TypeVar("T")


class GlobalServiceError(Exception):
    """virtualizationservice cannot be reached; the message says what was tried."""


class GlobalService:
    """A connection to virtualizationservice that is made when needed and made anew after the service has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._root: IVirtualizationServiceInternal | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self.is_system = False

    def call(self, operation: Callable[[IVirtualizationServiceInternal], T]) -> T:
        """Runs `operation` with the service, once more if the service turns out to be dead.

        Raises GlobalServiceError, or what the operation raises.
        """
        try:
            return operation(self._connected())
        except DeadObjectError:
            log.warning("virtualizationservice has died; connecting anew")
            self.close()
            return operation(self._connected())

    def prepare(self) -> None:
        """Connects ahead of need and lifts our limit on locked memory; what fails here shows again when it matters."""
        try:
            self.call(lambda service: service.remove_memlock_rlimit())
        except (BinderError, GlobalServiceError, OSError) as e:
            log.info("the limit on locked memory stays: %s", e)

    def policy(self) -> Policy:
        """What the user of this process may do. Raises GlobalServiceError if the policy cannot be read."""
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

    def _connected(self) -> IVirtualizationServiceInternal:
        with self._lock:
            if self._root is None:
                self._session, self.is_system = self._find_or_start()
                self._root = self._session.get_root(IVirtualizationServiceInternal)
            return self._root

    def _find_or_start(self) -> tuple[Session, bool]:
        if found := _find():
            return found
        if "AVF_SERVICE_SOCKET" in os.environ:
            raise GlobalServiceError(
                f"no virtualizationservice at {os.environ['AVF_SERVICE_SOCKET']}"
            )
        directory = user_runtime_dir()
        with _sole_starter(directory):
            if found := _find():
                return found
            if self._child is not None:
                self._child.poll()
            self._child = _start(directory / "service.log")
            if found := _find():
                return found
        raise GlobalServiceError(
            f"virtualizationservice does not answer; see {directory}/service.log"
        )


def _find() -> tuple[Session, bool] | None:
    for path in service_sockets():
        try:
            session = connect(unix(path), fd_mode=FdMode.NONE, timeout=START_SECONDS)
        except (OSError, BinderError) as e:
            log.debug("no service at %s: %s", path, e)
            continue
        return session, path != user_runtime_dir() / SERVICE_SOCKET_NAME
    return None


@contextlib.contextmanager
def _sole_starter(directory: Path) -> Iterator[None]:
    """Of several clients that find no service, one at a time may start it."""
    fd = os.open(
        directory / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _start(log_file: Path) -> subprocess.Popen[bytes]:
    """Starts the user's service in a session of its own; returns when it is ready or has failed."""
    ready, ready_child = os.pipe()
    with open(ready, "rb") as waiting, log_file.open("ab") as output:
        try:
            child = subprocess.Popen(
                [
                    *(sys.executable, "-m", "avf.virtualizationservice", "--user"),
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
        waiting.read()
    return child
