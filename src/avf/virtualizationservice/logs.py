"""The service's log: what clients can make it say is bounded, and so is the file it may be written to."""

import contextlib
import logging
import os
import sys
import threading
from pathlib import Path
from types import TracebackType

from avf.log_lines import PrintableFormatter, wanted_level
from avf.runtime import MAX_LOG_BYTES, rotate
from avf.virtualizationservice.files import open_to_append
from avf.virtualizationservice.quotas import RateLimit

BURST = 100
PER_SECOND = 0.5

log = logging.getLogger(__name__)


def set_up(file: Path | None) -> None:
    """Logs to standard error; with `file`, that and standard output go to it, if it can be opened.

    Raises SettingError.
    """
    line = "virtualizationservice: %(levelname)s: %(message)s"
    if "JOURNAL_STREAM" not in os.environ:  # the journal knows the time
        line = f"%(asctime)s {line}"
    handler = _handler(file)
    handler.addFilter(LogLimit())
    level = wanted_level()
    handler.setFormatter(PrintableFormatter(line, tracebacks=level == logging.DEBUG))
    logging.basicConfig(level=level, handlers=[handler])
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value, args.exc_traceback
    )


def _handler(file: Path | None) -> logging.Handler:
    if file is not None:
        with contextlib.suppress(OSError):
            return _FileHandler(file)
    return logging.StreamHandler()


class LogLimit(logging.Filter):
    """Lets each line of the program say so much on behalf of each party (`extra={"party": …}`), and counts the rest."""

    def __init__(self, limit: RateLimit | None = None) -> None:
        super().__init__()
        self._limit = limit or RateLimit(BURST, PER_SECOND)
        self._left_out: dict[object, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        party = getattr(record, "party", None)
        key = (record.pathname, record.lineno, party)
        if not self._limit.take(key):
            self._left_out[key] = self._left_out.get(key, 0) + 1
            return False
        if count := self._left_out.pop(key, 0):
            record.msg = f"{record.getMessage()} ({count} more like it were left out)"
            record.args = ()
        return True


class _FileHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Standard output and error of this process, both a file that is set aside when it is large."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._open()

    def emit(self, record: logging.LogRecord) -> None:
        if os.fstat(2).st_size > MAX_LOG_BYTES:
            try:
                self._open()
            except OSError:
                os.ftruncate(2, 0)
        super().emit(record)

    def _open(self) -> None:
        rotate(self._path)
        fd = open_to_append(self._path)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.close(fd)


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if issubclass(kind, SystemExit):
        return
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
    elif error is not None:
        log.error("nobody caught this", exc_info=(kind, error, trace))
