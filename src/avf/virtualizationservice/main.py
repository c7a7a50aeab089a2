"""The virtualizationservice daemon."""

import argparse
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from avf.binder import FdMode, Server
from avf.policy import PolicyError, load_policy
from avf.runtime import SERVICE_SOCKET_NAME, SYSTEM_RUNTIME_DIR, user_runtime_dir
from avf.virtualizationservice.atoms import AtomLog
from avf.virtualizationservice.cids import CidAllocator
from avf.virtualizationservice.contexts import ContextTable
from avf.virtualizationservice.service import VirtualizationServiceInternal
from avf.virtualizationservice.tempdirs import TempDirs

FIRST_ACTIVATED_FD = 3
IDLE_CHECK_SECONDS = 0.5
LOCK_SECONDS = 10

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Serves until idle or told to end. 0; 1 when it cannot start, with the reason on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s virtualizationservice: %(levelname)s: %(message)s"
    )
    try:
        with Daemon(options.system) as daemon:
            daemon.run(options.idle_timeout, options.ready_fd)
    except (OSError, PolicyError) as e:
        print(f"virtualizationservice: {e}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="virtualizationservice", description=__doc__)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--user", dest="system", action="store_false", help="serve the calling user (default)"
    )
    kind.add_argument("--system", action="store_true", help="serve every user of the host")
    parser.add_argument(
        "--idle-timeout",
        type=float,
        default=0,
        metavar="SECONDS",
        help="leave when nobody has been connected for so long (0: never)",
    )
    parser.add_argument("--ready-fd", type=int, help="closed once the service can be reached")
    return parser


class Daemon:
    """One service and what it owns: the lock that keeps it single, its socket, its directories."""

    def __init__(self, system: bool) -> None:
        self._stack = contextlib.ExitStack()
        self._stop = threading.Event()
        with contextlib.ExitStack() as undo:
            undo.callback(self._stack.close)
            self._set_up(system)
            undo.pop_all()

    def _set_up(self, system: bool) -> None:
        policy = load_policy(system=system)
        directory = _system_runtime_dir() if system else user_runtime_dir()
        self._stack.callback(os.close, _lock(directory / "service.lock"))
        directories = TempDirs(directory / "vms")
        self._stack.callback(directories.close)
        contexts = ContextTable(CidAllocator(directory / "last_cid"), directories)
        service = VirtualizationServiceInternal(
            contexts, policy, AtomLog(directory / "atoms.jsonl")
        )
        self._server = Server(
            service, fd_modes=frozenset({FdMode.NONE, FdMode.UNIX}), max_threads=4
        )
        listener = _activated_socket() or self._listen(directory / SERVICE_SOCKET_NAME, system)
        self._server.start(listener)
        self._stack.callback(self._server.shutdown)

    def _listen(self, path: Path, system: bool) -> socket.socket:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.ExitStack() as undo:
            undo.callback(listener.close)
            listener.bind(str(path))
            path.chmod(0o666 if system else 0o600)
            listener.listen(64)
            undo.pop_all()
        self._stack.callback(path.unlink, missing_ok=True)
        return listener

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, idle_timeout: float, ready_fd: int | None) -> None:
        """Blocks until a signal, or until nobody has been connected for `idle_timeout` seconds."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        if ready_fd is not None:
            os.close(ready_fd)
        _notify_systemd("READY=1")
        log.info("ready")
        idle = 0.0
        while not self._stop.wait(IDLE_CHECK_SECONDS if idle_timeout else None):
            idle = 0.0 if self._server.sessions else idle + IDLE_CHECK_SECONDS
            if idle >= idle_timeout:
                log.info("nobody is connected; leaving")
                return


def _system_runtime_dir() -> Path:
    SYSTEM_RUNTIME_DIR.mkdir(mode=0o755, exist_ok=True)
    return SYSTEM_RUNTIME_DIR


def _lock(path: Path) -> int:
    """Takes the lock that keeps the service single, waiting for a former one that is about to end."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    previous = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LOCK_SECONDS)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except TimeoutError:
        os.close(fd)
        raise OSError(f"{path} is locked: a service is running already") from None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    return fd


def _give_up(*_: object) -> None:
    raise TimeoutError


def _activated_socket() -> socket.socket | None:
    """The socket systemd listens on for us (sd_listen_fds(3)), or None."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=FIRST_ACTIVATED_FD)


def _notify_systemd(state: str) -> None:
    """sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(state.encode(), address)


if __name__ == "__main__":
    sys.exit(main())
