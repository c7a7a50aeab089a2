"""Logs that hold text of others, as a terminal may show them, with as much detail as is wanted."""

import logging
import traceback
from pathlib import PurePath
from types import TracebackType

from avf import settings
from avf.causes import chain
from avf.printable import printable, printable_lines

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def wanted_level() -> int:
    """The level that `$AVF_LOG` names, else INFO. Raises SettingError."""
    return _LEVELS[settings.log_level() or "info"]


class PrintableFormatter(logging.Formatter):
    """Writes each record of a log as one line. An error is told with its causes and the place it was raised at; its
    traceback is for those who have asked for debugging.
    """

    def __init__(self, layout: str, *, tracebacks: bool = False) -> None:
        super().__init__(layout)
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if self._tracebacks or not record.exc_info or record.exc_info[1] is None:
            return super().format(record)
        error = record.exc_info[1]
        short = logging.makeLogRecord(record.__dict__ | {"exc_info": None, "exc_text": None})
        short.msg = f"{record.getMessage()}: {': '.join(chain(error))}{_place(error)}"
        short.args = None
        return super().format(short)

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _ExcInfo) -> str:
        return printable_lines(super().formatException(ei))


def _place(error: BaseException) -> str:
    """Where `error` was raised, for a report of it."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    if not frames:
        return f" [{type(error).__name__}]"
    path = PurePath(frames[0].filename)
    return f" [{type(error).__name__} at {path.parent.name}/{path.name}:{frames[0].lineno}]"
