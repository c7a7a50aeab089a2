"""Logs that hold text of others, as a terminal may show them."""

import logging

from avf.printable import printable, printable_lines


class PrintableFormatter(logging.Formatter):
    """Writes each message of a log as one line; a traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        return printable_lines(super().formatException(ei))  # type: ignore[arg-type]
