"""virtmgr as a child process: started for one client, spoken to over one socket, gone when that closes."""

import codecs
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack

from avf import settings
from avf.causes import words
from avf.client.errors import ServiceStartError
from avf.printable import printable_lines

TAIL_SIZE = 8192
_EXIT_TIMEOUT = 10.0


class VirtmgrProcess:
    """A running virtmgr. `bootstrap` is the socket to reach it by; closing that makes it leave."""

    def __init__(self, command: Sequence[str] | None, *, forward_log: bool, timeout: float) -> None:
        """Returns when virtmgr says that it is ready. Raises ServiceStartError and leaves nothing behind."""
        with ExitStack() as undo:
            self.bootstrap, served = socket.socketpair()
            undo.callback(self.bootstrap.close)
            ready_read, ready_write = os.pipe()
            ready = undo.enter_context(open(ready_read, "rb", buffering=0))
            try:
                self._process = _spawn(command, served.fileno(), ready_write)
            except OSError as error:
                raise ServiceStartError(f"cannot run virtmgr: {words(error)}") from error
            finally:
                served.close()
                os.close(ready_write)
            self._log = _LogTail(self._process, forward_log)
            undo.callback(self.close)
            undo.callback(self._process.kill)
            if not select.select([ready], [], [], timeout)[0]:
                raise ServiceStartError(f"virtmgr is not ready after {timeout:g} s", self.log_tail)
            if not ready.read(1):
                self._refuse_if_dead()
            undo.pop_all()
            ready.close()

    def _refuse_if_dead(self) -> None:
        """An end of file without a word is how a virtmgr says "ready" that knows no better, and how one dies."""
        if (end := self.how_it_ended(0.5)) is not None:
            raise ServiceStartError(f"virtmgr {end}", self.log_tail)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log_tail(self) -> str:
        """The last of what virtmgr wrote to its standard error."""
        if self._process.poll() is not None:
            self._log.finish()
        return self._log.text

    def how_it_ended(self, patience: float) -> str | None:
        """For people: "exited with status 1", "was killed by SIGKILL"; None if it still runs after `patience` s."""
        try:
            status = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return None
        if status >= 0:
            return f"exited with status {status}"
        return f"was killed by {signal.Signals(-status).name}"

    def close(self) -> None:
        """Ends virtmgr, and with it every VM; waits until it is gone. Idempotent."""
        self.bootstrap.close()
        try:
            self._process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.finish()


def default_command() -> list[str]:
    """`$AVF_VIRTMGR`, split as a shell does, else this installation's virtmgr. Raises SettingError."""
    return settings.virtmgr() or [sys.executable, "-P", "-m", "avf.virtmgr"]


def _spawn(command: Sequence[str] | None, server_fd: int, ready_fd: int) -> subprocess.Popen[bytes]:
    program = list(command) if command else default_command()
    return subprocess.Popen(
        [*program, "--rpc-server-fd", str(server_fd), "--ready-fd", str(ready_fd)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=(server_fd, ready_fd),
        process_group=0,  # an interrupt from the terminal is for the client, which then ends its VMs in order
    )


class _LogTail:
    """A thread that keeps the end of a process's standard error, and passes all of it on if asked to.

    It does not rely on the end of file: what virtmgr started may outlive it and hold the pipe open.
    """

    def __init__(self, process: subprocess.Popen[bytes], forward: bool) -> None:
        assert process.stderr is not None
        self._pipe = process.stderr
        self._forward = forward
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail = b""
        os.set_blocking(self._pipe.fileno(), False)
        self._stop_read, self._stop_write = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="virtmgr-log", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pipe, stop = self._pipe.fileno(), self._stop_read.fileno()
        while stop not in select.select([pipe, stop], [], [])[0]:
            if not self._take():
                return
        while self._take():
            pass

    def _take(self) -> bool:
        data = self._pipe.read(65536)
        if not data:
            return False
        if self._forward and sys.stderr is not None:
            sys.stderr.write(printable_lines(self._decoder.decode(data)))
            sys.stderr.flush()
        self._tail = (self._tail + data)[-TAIL_SIZE:]
        return True

    @property
    def text(self) -> str:
        return self._tail.decode(errors="replace").strip()

    def finish(self) -> None:
        """Takes what is left and closes the pipe. Idempotent."""
        self._stop_write.close()
        self._thread.join()
        self._stop_read.close()
        self._pipe.close()
