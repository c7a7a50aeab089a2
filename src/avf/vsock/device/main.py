"""The device process: arguments, set-up, one loop until the front-end goes."""

import errno
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import ExitStack

from avf import unix_path
from avf.vsock.address import check_guest_cid
from avf.vsock.device import loop as events_of
from avf.vsock.device.acceptor import Acceptor
from avf.vsock.device.backend import Device
from avf.vsock.device.connections import Connections, Dial
from avf.vsock.device.errors import ControlLost
from avf.vsock.device.lender import Lender
from avf.vsock.device.loop import Loop
from avf.vsock.device.remote_dialler import RemoteDialler
from avf.vsock.device.vhost_user import ControlStream
from avf.vsock.dialler import Dialler

USAGE = (
    "usage: python -m avf.vsock.device --ctl-fd N --cid CID [--ready-fd M]"
    " (--base PATH [--host-dir DIR]... | --listen-fd L --dial-fd D) [--memory-fd S]"
)
FLUSH_SECONDS = 2.0
"""How long the host may take for what the guest sent last, once the front-end is gone."""

_OPTIONS = frozenset(
    {"--ctl-fd", "--base", "--cid", "--ready-fd", "--listen-fd", "--dial-fd", "--memory-fd"}
)
_DESCRIPTORS_WANTED = 2048
_BACKLOG = 128
_MISTAKES_MAX = 10
_LINE_MAX = 4096
"""What a pipe takes at once if it takes anything."""


class Arguments:
    """What the device was started with."""

    __slots__ = (
        "base",
        "cid",
        "ctl_fd",
        "dial_fd",
        "host_dirs",
        "listen_fd",
        "memory_fd",
        "ready_fd",
    )

    def __init__(self, words: list[str]) -> None:
        """Raises ValueError."""
        self.host_dirs: list[str] = []
        values: dict[str, str] = {}
        if len(words) % 2:
            raise ValueError("an option lacks its value")
        for option, value in zip(words[::2], words[1::2], strict=True):
            if option == "--host-dir":
                self.host_dirs.append(value)
            elif option in _OPTIONS:
                values[option] = value
            else:
                raise ValueError(f"unknown option {option}")
        opens_itself = "--base" in values
        needed = ("--base",) if opens_itself else ("--listen-fd", "--dial-fd")
        for option in ("--ctl-fd", "--cid", *needed):
            if option not in values:
                raise ValueError(f"{option} is missing")
        self.base = values.get("--base")
        self.cid = check_guest_cid(int(values["--cid"]))
        self.ctl_fd = int(values["--ctl-fd"])
        self.listen_fd = int(values.get("--listen-fd", -1))
        self.dial_fd = int(values.get("--dial-fd", -1))
        self.ready_fd = int(values["--ready-fd"]) if "--ready-fd" in values else None
        self.memory_fd = int(values["--memory-fd"]) if "--memory-fd" in values else None


def main(words: list[str]) -> int:
    """Runs the device; returns its exit status: 0 when the front-end went, 1 for trouble, 2 for bad arguments."""
    try:
        arguments = Arguments(words)
    except ValueError as error:
        log(f"{error}\n{USAGE}")
        return 2
    _limit_resources()
    # A terminal's interrupt goes to everybody in front of it; this process ends with its front-end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with ExitStack() as stack:
            process = Process(arguments, stack)
            _report_ready(arguments.ready_fd)
            return process.run()
    except ControlLost:  # the front-end has ended and never called, and knows why
        return 0
    except OSError as error:
        log(str(error))
        return 1


def log(line: str) -> None:
    """One line to stderr; dropped rather than waited for if nobody reads it."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    try:
        if poll.poll(0):
            os.write(2, f"vsock device: {line}\n".encode(errors="replace")[:_LINE_MAX])
    except OSError:
        pass  # stderr is closed


class Process:
    """Everything one device process has."""

    def __init__(self, arguments: Arguments, stack: ExitStack) -> None:
        """Listens on BASE when done; `stack` closes everything. Raises OSError."""
        self.running = True
        self._status = 0
        self._more = False
        self._mistakes = 0
        control = _control(arguments.ctl_fd)
        stack.callback(control.close)
        self._loop = Loop()
        stack.callback(self._loop.close)
        listener, dial = self._way_to_the_host(arguments, stack)
        self.connections = Connections(self._loop, arguments.cid, dial)
        stack.callback(self.connections.close)
        borrow = None
        if arguments.memory_fd is not None:
            lender = Lender(socket.socket(fileno=arguments.memory_fd))
            stack.callback(lender.close)
            borrow = lender.borrow
        self.device = Device(self._loop, arguments.cid, self.connections, log, borrow)
        stack.callback(self.device.close)
        self.control = ControlStream(control, self.device, log)
        stack.callback(self.control.close)
        self._loop.add(control.fileno(), events_of.IN, self._on_control)
        self.acceptor = Acceptor(self._loop, listener, self._open)
        stack.callback(self.acceptor.close)

    def _way_to_the_host(
        self, arguments: Arguments, stack: ExitStack
    ) -> tuple[socket.socket, Dial]:
        """The listener for the host's connections, and what connects the guest's."""
        if arguments.base is None:
            dial = socket.socket(fileno=arguments.dial_fd)
            remote = RemoteDialler(self._loop, dial, lambda *ports: self.connections.retry(*ports))
            stack.callback(remote.close)
            return socket.socket(fileno=arguments.listen_fd), remote
        listener = unix_path.listen(arguments.base, mode=0o600, backlog=_BACKLOG)
        stack.callback(_remove, arguments.base)
        return listener, Dialler(arguments.cid, arguments.base, arguments.host_dirs)

    def run(self) -> int:
        """Serves until the front-end goes, delivers what the guest sent last, and returns the exit status."""
        while self.running:
            self.step(self._patience())
        self._deliver_rest()
        return self._status

    def step(self, patience: float | None) -> bool:
        """Waits for events at most that long and does what there is to do; True if there was or is anything."""
        try:
            events = self._loop.turn(0 if self._more else patience)
            self.acceptor.tick()
            self.connections.tick()
            self._more = self.device.pump()
        except Exception:  # noqa: BLE001 - a mistake of ours must end this guest's traffic, not the process
            self._more = False
            self._on_mistake()
            return True
        return bool(events) or self._more

    def _deliver_rest(self) -> None:
        self.device.reset()
        self.connections.part()
        deadline = time.monotonic() + FLUSH_SECONDS
        while self.connections.backlog and (left := deadline - time.monotonic()) > 0:
            self._loop.turn(left)

    def _patience(self) -> float | None:
        waits = [self.acceptor.patience, self.connections.patience]
        return min((wait for wait in waits if wait is not None), default=None)

    def _open(self, sock: socket.socket, port: int) -> bool:
        return not self.device.broken and self.connections.open(sock, port)

    def _on_control(self, _: int) -> None:
        try:
            self.running = self.control.receive()
        except ControlLost as error:
            log(f"the control stream is lost: {error}")
            self.running = False
            self._status = 1

    def _on_mistake(self) -> None:
        import traceback

        self.device.fail(traceback.format_exc(limit=-2).strip().replace("\n", " | "))
        self._mistakes += 1
        if self._mistakes >= _MISTAKES_MAX:
            self.running = False
            self._status = 1


def _control(fd: int) -> socket.socket:
    """The socket to the front-end, which calls if `fd` listens. Raises OSError, or ControlLost if nobody calls."""
    given = socket.socket(fileno=fd)
    if not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return given
    with given:
        try:
            return given.accept()[0]
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise ControlLost("nobody called") from error


def _remove(base: str) -> None:
    try:
        os.unlink(base)  # noqa: PTH108
    except OSError:
        pass  # its directory went first


def _report_ready(fd: int | None) -> None:
    if fd is not None:
        os.write(fd, b"1")
        os.close(fd)


def _limit_resources() -> None:
    """Room for all connections; no core dump, since the guest's memory would be in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > _DESCRIPTORS_WANTED:
        hard = _DESCRIPTORS_WANTED
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run() -> None:
    """The program."""
    sys.exit(main(sys.argv[1:]))
