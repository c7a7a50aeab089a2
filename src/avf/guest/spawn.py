"""Starts a command in a session of its own, on pipes or on a terminal."""

import errno
import fcntl
import os
import signal
import struct
import termios
from types import TracebackType
from typing import NoReturn, Self

from avf.guest import PAYLOAD_ID
from avf.guest.visitor import become_visitor
from avf.shell import Request

SHELL = "/bin/sh"
_TTY_GROUP = 5
_MAX_FD = 1 << 16
_STATUS = {errno.ENOENT: 127, errno.ENOTDIR: 127}
_SIZE = struct.Struct("=HHHH")


class SpawnError(Exception):
    """The command cannot be started; `status` is what a shell would exit with."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Spawned:
    """A command that runs, and this side of its streams, which do not block. As a context manager it closes those."""

    def __init__(
        self, pid: int, input_fd: int | None, outputs: dict[int, int], terminal: int | None
    ) -> None:
        """Takes the descriptors over. A terminal is the input and output 1."""
        self.pid = pid
        self.input = input_fd
        self.outputs = outputs
        """By the number that the command knows them by. What is read no more is not in it."""
        self.ended = os.pidfd_open(pid)
        """Can be read once the command has ended."""
        self._terminal = terminal
        self._status: int | None = None
        for fd in {*outputs.values(), *([] if input_fd is None else [input_fd])}:
            os.set_blocking(fd, False)

    def signal(self, number: int) -> None:
        """To all of the command's process group; nothing if the number is none, or nobody is left."""
        if self._status is None and 1 <= number < signal.NSIG:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass

    def hang_up(self) -> None:
        """What becomes of a command whose terminal is closed."""
        self.signal(signal.SIGHUP)
        self.signal(signal.SIGCONT)

    def resize(self, size: bytes) -> None:
        """`size`: rows and columns, as a RESIZE has them."""
        if self._terminal is not None:
            rows, columns = struct.unpack("<HH", size)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, _SIZE.pack(rows, columns, 0, 0))

    def end_input(self) -> None:
        if self.input is not None and self._terminal is None:
            os.close(self.input)
        self.input = None

    def close_output(self, number: int) -> None:
        """The command gets SIGPIPE if it goes on writing there; a terminal stays, for it is the input, too."""
        fd = self.outputs.pop(number, None)
        if fd is not None and self._terminal is None:
            os.close(fd)

    def wait(self) -> int:
        """The wait status."""
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
        return self._status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_input()
        for number in list(self.outputs):
            self.close_output(number)
        if self._terminal is not None:
            os.close(self._terminal)
        os.close(self.ended)


def spawn(request: Request) -> Spawned:
    """Raises SpawnError or OSError."""
    told, tell = os.pipe()
    try:
        spawned = (
            _on_pipes(request, tell) if request.terminal is None else _on_terminal(request, tell)
        )
    finally:
        os.close(tell)
    with open(told, "rb") as file:
        trouble = file.read(4096)
    if trouble:
        with spawned:
            spawned.wait()
        number, _, text = trouble.partition(b" ")
        raise SpawnError(int(number), text.decode("utf-8", "replace"))
    return spawned


def _on_pipes(request: Request, tell: int) -> Spawned:
    pipes = [os.pipe() for _ in range(3)]
    (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = pipes
    theirs = (theirs_in, theirs_out, theirs_err)
    try:
        pid = _fork(request, tell, theirs, controlling=False)
    finally:
        for fd in theirs:
            os.close(fd)
    return Spawned(pid, ours_in, {1: ours_out, 2: ours_err}, None)


def _on_terminal(request: Request, tell: int) -> Spawned:
    master, slave = os.openpty()
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, _SIZE.pack(*(request.terminal or (0, 0)), 0, 0))
        if not request.root:
            os.fchown(slave, PAYLOAD_ID, _TTY_GROUP)
        os.fchmod(slave, 0o620)
        pid = _fork(request, tell, (slave, slave, slave), controlling=True)
    finally:
        os.close(slave)
    return Spawned(pid, master, {1: master}, master)


def _fork(request: Request, tell: int, streams: tuple[int, int, int], *, controlling: bool) -> int:
    pid = os.fork()
    if pid == 0:
        _become(request, tell, streams, controlling)
    return pid


def _become(
    request: Request, tell: int, streams: tuple[int, int, int], controlling: bool
) -> NoReturn:
    """In the child. Nothing but the three streams and the pipe for trouble is open when the user changes."""
    what = os.fsencode(SHELL) if not request.arguments else request.arguments[0]
    try:
        os.setsid()
        if controlling:
            fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
        tell = fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, 16)
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        os.closerange(3, tell)
        os.closerange(tell + 1, _MAX_FD)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        become_visitor(request.root, dumpable=True)
        _enter_folder(request.folder)
        for variable in request.environment:
            name, _, value = variable.partition(b"=")
            os.environb[name] = value
        os.execvp(what, list(request.arguments) or [b"-sh"])
    except SpawnError as error:
        os.write(tell, f"{error.status} {error}".encode("utf-8", "replace")[:4096])
    except OSError as error:
        status = _STATUS.get(error.errno or 0, 126)
        text = f"{os.fsdecode(what)}: {error.strerror}"
        os.write(tell, f"{status} {text}".encode("utf-8", "replace")[:4096])
    finally:
        os._exit(127)


def _enter_folder(folder: bytes) -> None:
    path = folder or os.fsencode(os.environ["HOME"])
    try:
        os.chdir(path)
    except OSError as error:
        raise SpawnError(126, f"{os.fsdecode(path)}: {error.strerror}") from error
