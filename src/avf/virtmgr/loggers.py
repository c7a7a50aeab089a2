"""Where a VM's console and log go, and virtmgr's own log."""

import contextlib
import errno
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable

from avf.log_lines import PrintableFormatter, wanted_level
from avf.pace import Pace

MAX_LINE = 4096
PIECE = 4096
"""What a pipe that can be written to takes without blocking (pipe(7), PIPE_BUF)."""
PATIENCE_SECONDS = 1.0
LINES_AT_ONCE, LINES_PER_SECOND = 200, 5
"""How often one statement of ours may log: a guest may be what makes it."""
LOGGED_BYTES = 64 << 20
"""How much of a VM's console or log goes to our log, all in all."""
LOGGED_RATE, LOGGED_BURST = 256 << 10, 2 << 20
"""Bytes a second, and at once; a line counts as 512 bytes at least."""
FAILURE_RATE = 1 << 20
_LINE_COST = 512
_READ_COST = 16 << 10

_LINE = "%s: %s"

log = logging.getLogger(__name__)


class PatientHandler(logging.Handler):
    """Writes to a descriptor and, when its reader has stopped reading, drops lines rather than wait for it.

    What a client does with our log must not keep us from ending its VMs.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._patience = PATIENCE_SECONDS
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as e:  # noqa: BLE001  a bad format string must not end a VM's thread
            text = f"{record.msg!r} cannot be logged: {e!r}"
        with contextlib.suppress(OSError):
            if self._dropped:
                text = f"[{self._dropped} messages were dropped]\n{text}"
            self._write(f"{text}\n".encode(errors="replace"))

    def _write(self, data: bytes) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while data:
            if not poll.poll(self._patience * 1000):
                self._patience = 0
                self._dropped += 1
                return
            data = data[os.write(self._fd, data[:PIECE]) :]
        self._patience = PATIENCE_SECONDS
        self._dropped = 0


class StatementLimit(logging.Filter):
    """Has each statement log only so often; the next line that gets through says how many did not."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._paces: dict[tuple[str, int], Pace] = {}
        self._dropped: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == log.name and record.msg is _LINE:  # these have a limit of their own
            return True
        place = (record.pathname, record.lineno)
        with self._lock:
            pace = self._paces.setdefault(place, Pace(LINES_PER_SECOND, LINES_AT_ONCE))
            if not pace.take(1):
                self._dropped[place] = self._dropped.get(place, 0) + 1
                return False
            dropped = self._dropped.pop(place, 0)
        if dropped:
            record.msg, record.args = f"{record.getMessage()} [and {dropped} like it]", None
        return True


def log_to_stderr() -> None:
    """Sends the log, and what nobody has caught, to standard error. Raises SettingError."""
    handler = PatientHandler(sys.stderr.fileno())
    handler.addFilter(StatementLimit())
    level = wanted_level()
    handler.setFormatter(
        PrintableFormatter("virtmgr: %(levelname)s: %(message)s", tracebacks=level == logging.DEBUG)
    )
    logging.basicConfig(level=level, handlers=[handler])
    sys.excepthook = lambda kind, error, trace: log.error(
        "nobody caught this", exc_info=error.with_traceback(trace)
    )
    threading.excepthook = lambda hook: log.error("nobody caught this", exc_info=hook.exc_value)


def logging_pipe(tag: str) -> int:
    """The write end of a pipe whose lines are logged as `TAG: LINE`, up to LOGGED_BYTES. Raises OSError.

    What comes faster than LOGGED_RATE has to wait.
    """
    read_end, write_end = os.pipe()
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, write_end)
        undo.callback(os.close, read_end)
        _start_thread(lambda: _log_lines(read_end, tag), tag)
        undo.pop_all()
    return write_end


def _start_thread(run: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as e:
        raise OSError(errno.EAGAIN, str(e)) from None
    return thread


def _log_lines(fd: int, tag: str) -> None:
    pace = Pace(LOGGED_RATE, LOGGED_BURST)
    left = LOGGED_BYTES
    with open(fd, "rb") as pipe:
        while line := pipe.readline(MAX_LINE):
            cost = max(len(line), _LINE_COST)
            if left > 0:
                log.info(_LINE, tag, line.removesuffix(b"\n").decode(errors="replace"))
                left -= cost
                if left <= 0:
                    log.info(_LINE, tag, "[what follows is not logged any more]")
            pace.spend(cost)
            _wait_for(pace)


def _wait_for(pace: Pace) -> None:
    if pause := pace.pause():
        time.sleep(pause)


class Collector:
    """A pipe whose text is kept, up to a limit; the rest is read and thrown away, so that no writer ever blocks."""

    LIMIT = 1 << 16

    def __init__(self) -> None:
        """Raises OSError."""
        self._text = bytearray()
        self._read_end, self.write_end = os.pipe()
        try:
            self._thread = _start_thread(self._collect, "failure-reason")
        except OSError:
            os.close(self._read_end)
            self.close_write_end()
            raise

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
        pace = Pace(FAILURE_RATE, FAILURE_RATE)
        with open(self._read_end, "rb", buffering=0) as pipe:
            while chunk := pipe.read(_READ_COST):
                self._text += chunk[: self.LIMIT - len(self._text)]
                pace.spend(len(chunk))
                _wait_for(pace)
