"""A file that a guest, or a VMM that a guest has taken over, writes: it has a limit."""

import os
import threading
import time

from avf.pace import Pace

_CHUNK = 256 << 10
_LEAST_COST = 16 << 10
"""What a read costs at least, however little it brings."""
_RATE = 256 << 20


class BoundedFile:
    """A pipe of which the first `limit` bytes go to a file; the rest is read and thrown away.

    So a writer never waits for long, and never fills more than the limit. What is read has a rate, 256 MiB/s.
    """

    def __init__(self, fd: int, limit: int) -> None:
        """Appends to the regular file `fd`, which stays the caller's. Raises OSError."""
        self._left = limit
        self._problem = ""
        self._limit = limit
        self._lock = threading.Lock()
        self._pace = Pace(_RATE, _RATE)
        self._fd = os.dup(fd)
        self._read_end = self.write_end = -1
        try:
            self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
            self._thread = threading.Thread(target=self._copy, name="bounded-file", daemon=True)
            self._thread.start()
        except (OSError, RuntimeError) as error:
            for end in (self._fd, self._read_end, self.write_end):
                if end >= 0:
                    os.close(end)
            raise OSError(getattr(error, "errno", None), f"no bounded file: {error}") from error

    @property
    def problem(self) -> str:
        """Why the file lacks what was written last; empty if it does not."""
        with self._lock:
            return self._problem

    def close_write_end(self) -> None:
        """Our own; the file is done when all others are closed too."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def empty(self) -> None:
        """Removes what was written, and takes no more."""
        with self._lock:
            self._left = 0
            self._problem = self._problem or "it was given up"
            os.ftruncate(self._fd, 0)

    def finish(self, timeout: float) -> bool:
        """Waits until all writers are gone; False after `timeout` seconds."""
        self.close_write_end()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _copy(self) -> None:
        with open(self._read_end, "rb", buffering=0) as pipe:
            while data := pipe.read(_CHUNK):
                self._keep(data)
                self._pace.spend(max(len(data), _LEAST_COST))
                if pause := self._pace.pause():
                    time.sleep(pause)
        with self._lock:
            os.close(self._fd)
            self._fd = -1

    def _keep(self, data: bytes) -> None:
        with self._lock:
            if len(data) > self._left and not self._problem:
                self._problem = f"it was cut after {self._limit} bytes"
            view = memoryview(data)[: self._left]
            self._left -= len(view)
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError as error:
                self._left = 0
                self._problem = f"it was cut: {error.strerror}"
