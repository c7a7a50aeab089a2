"""virtmgr: started by a client, for that client alone.

    virtmgr --rpc-server-fd N --ready-fd M

N is a unix stream socket over which the client hands one socket per connection (RPC Binder's bootstrap transport); when
the client has closed it, virtmgr ends and its VMs with it. M gets the byte `o` once virtmgr serves, then is closed.
"""

import contextlib
import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import threading
from typing import NoReturn

from avf import settings
from avf.binder import FdMode, Server
from avf.printable import printable
from avf.undumpable import make_undumpable
from avf.virtmgr.atoms import AtomSender
from avf.virtmgr.global_service import GlobalService
from avf.virtmgr.loggers import log_to_stderr
from avf.virtmgr.service import VirtualizationService

ATOM_SECONDS = 2
END_SECONDS = 15
DESCRIPTORS_WANTED = 65536
USAGE = "usage: virtmgr --rpc-server-fd N --ready-fd M"

log = logging.getLogger(__name__)


def run() -> NoReturn:
    """Runs virtmgr as this process, which ends at once when all is closed: its client waits for its end, and taking
    the interpreter down would take longer than all that `serve` does to end.
    """
    status = main()
    if sys.stderr is not None:
        sys.stderr.flush()
    os._exit(status)


def main(arguments: list[str] | None = None) -> int:
    try:
        settings.check()
        log_to_stderr()
    except settings.SettingError as e:
        print(f"virtmgr: {printable(str(e))}", file=sys.stderr)
        return 2
    for warning in settings.unknown():
        log.warning("%s", warning)
    try:
        rpc_fd, ready_fd = _parse(sys.argv[1:] if arguments is None else arguments)
    except ValueError as e:
        print(f"virtmgr: {printable(str(e))}\n{USAGE}", file=sys.stderr)
        return 2
    make_undumpable()
    _raise_descriptor_limit()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=rpc_fd) as bootstrap:
        serve(bootstrap, ready_fd)
    return 0


def serve(bootstrap: socket.socket, ready_fd: int) -> None:
    """Serves until `bootstrap` ends or SIGTERM comes, then ends every VM."""
    global_service = GlobalService()
    atoms = AtomSender(global_service)
    service = VirtualizationService(global_service, atoms)
    # The client owns this process and may be stopped at any point of a frame: no deadline, and no bound but the whole.
    server = Server(service, fd_modes=frozenset({FdMode.UNIX}))
    try:
        _end_bootstrap_on_sigterm(bootstrap)
        os.write(ready_fd, b"o")
        os.close(ready_fd)
        for work in (global_service.prepare, service.load):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        server.serve_bootstrap(bootstrap)
    finally:
        deadline = _end_anyway_after(END_SECONDS)
        service.kill_all()
        server.shutdown()
        service.close()
        atoms.close(ATOM_SECONDS)
        global_service.close()
        deadline.cancel()


def _parse(arguments: list[str]) -> tuple[int, int]:
    """The two descriptors. Raises ValueError unless both are given, open, distinct, and not standard streams."""
    given = {}
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("--rpc-server-fd", "--ready-fd") or name in given:
            raise ValueError(f"unexpected argument {word!r}")
        given[name] = _take_fd(name, value if equals else next(words, ""))
    missing = {"--rpc-server-fd", "--ready-fd"} - given.keys()
    if missing:
        raise ValueError(f"{sorted(missing)[0]} is required")
    if given["--rpc-server-fd"] == given["--ready-fd"]:
        raise ValueError("both descriptors are the same")
    return given["--rpc-server-fd"], given["--ready-fd"]


def _take_fd(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{name}: {text!r} is not a descriptor")
    fd = int(text)
    if fd <= 2:
        raise ValueError(f"{name}: {fd} is a standard stream")
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFD)
    except (OSError, OverflowError):
        raise ValueError(f"{name}: {fd} is not open") from None
    fcntl.fcntl(fd, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)
    return fd


def _raise_descriptor_limit() -> None:
    """As many descriptors as we may have: each VM needs some, and the usual limit is for programs with few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end_bootstrap_on_sigterm(bootstrap: socket.socket) -> None:
    """SIGTERM is as if the client had gone.

    The handler in C tells a thread of it: one in Python would run when the main thread next wakes up, which a signal
    that another thread got does not see to.
    """
    received, told = socket.socketpair()
    told.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)

    def wait() -> None:
        while received.recv(1)[0] != signal.SIGTERM:
            pass
        with contextlib.suppress(OSError):
            bootstrap.shutdown(socket.SHUT_RD)

    threading.Thread(target=wait, name="sigterm", daemon=True).start()


def _end_anyway_after(seconds: float) -> threading.Timer:
    """Ending must not depend on peers: the VMs die with this process, whatever state it is in."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
    return timer


if __name__ == "__main__":
    run()
