"""Where a VM's console and log go."""

import logging
import os
import threading

MAX_LINE = 4096

log = logging.getLogger(__name__)


def logging_pipe(tag: str) -> int:
    """The write end of a pipe of which every line is logged as `TAG: LINE`. Raises OSError."""
    read_end, write_end = os.pipe()
    threading.Thread(target=_log_lines, args=(read_end, tag), name=tag, daemon=True).start()
    return write_end


def _log_lines(fd: int, tag: str) -> None:
    with open(fd, "rb") as pipe:
        while line := pipe.readline(MAX_LINE):
            log.info("%s: %s", tag, line.removesuffix(b"\n").decode(errors="replace"))


class Collector:
    """A pipe whose text is kept, up to a limit; the rest is read and thrown away, so that no writer ever blocks."""

    LIMIT = 1 << 16

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        self._text = bytearray()
        self._thread = threading.Thread(target=self._collect, name="failure-reason", daemon=True)
        self._thread.start()

    def close_write_end(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def finish(self, timeout: float) -> str:
        """What was written, once every writer is gone (or after `timeout`). Raises UnicodeDecodeError."""
        self.close_write_end()
        self._thread.join(timeout)
        return bytes(self._text).decode()

    def _collect(self) -> None:
        with open(self._read_end, "rb", buffering=0) as pipe:
            while chunk := pipe.read(4096):
                self._text += chunk[: self.LIMIT - len(self._text)]
