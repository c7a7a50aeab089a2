"""A command that runs in a guest, with its streams."""

import os
import signal
import socket
import threading
from contextlib import suppress
from typing import BinaryIO, Self, cast

from avf.client.errors import ShellFailed
from avf.client.relay import Ending, Relay
from avf.shell import Request


class GuestCommand:
    """As a `subprocess.Popen` with pipes. Leaving it, or its `with`, hangs the command up (SIGHUP) if it still runs.

    On a terminal, all output is in `stdout`.
    """

    def __init__(self, connection: socket.socket, request: Request) -> None:
        """Takes over `connection`."""
        reads, writes = _pipes()
        self.stdin = cast(BinaryIO, open(writes[0], "wb"))  # noqa: SIM115
        self.stdout = cast(BinaryIO, open(reads[1], "rb"))  # noqa: SIM115
        self.stderr = cast(BinaryIO, open(reads[2], "rb"))  # noqa: SIM115
        self._theirs = [reads[0], writes[1], writes[2]]
        self._relay = Relay(connection, request, reads[0], {1: writes[1], 2: writes[2]})
        self._ending: Ending | None = None
        self._error: ShellFailed | None = None
        self._thread = threading.Thread(target=self._run, name="guest-command", daemon=True)
        self._thread.start()

    @property
    def returncode(self) -> int | None:
        """The exit status, or -N for signal N; None while it runs."""
        return None if self._ending is None else self._ending.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended and all it has written was taken; `returncode`.

        As with `subprocess`, somebody must read what it writes. Raises ShellFailed, or TimeoutError after `timeout`
        seconds.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError("the command still runs")
        if self._ending is None:
            raise self._error or ShellFailed("the command was left")
        return self._ending.returncode

    def send_signal(self, number: int) -> None:
        """To all of its process group."""
        self._relay.signal(number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def resize(self, rows: int, columns: int) -> None:
        """Tells it that its terminal has another size."""
        self._relay.resize(rows, columns)

    def close(self) -> None:
        """Hangs it up if it still runs, and closes its streams. Idempotent."""
        self._relay.leave()
        for stream in (self.stdout, self.stderr, self.stdin):
            with suppress(BrokenPipeError):
                stream.close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._ending = self._relay.run()
        except ShellFailed as error:
            self._error = error
        except OSError as error:
            self._error = ShellFailed(str(error))
        finally:
            self._relay.close()
            for fd in self._theirs:
                os.close(fd)


def _pipes() -> tuple[list[int], list[int]]:
    """The read and write ends of three pipes. Raises OSError."""
    reads: list[int] = []
    writes: list[int] = []
    try:
        for _ in range(3):
            read, write = os.pipe()
            reads.append(read)
            writes.append(write)
    except OSError:
        for fd in (*reads, *writes):
            os.close(fd)
        raise
    return reads, writes
