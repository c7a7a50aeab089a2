"""Reports and logs that hold text of others, as a terminal may show them."""

import json
import logging

from avf.printable import printable, printable_lines


def printable_json(value: object, indent: int | None = None) -> str:
    """JSON in ASCII, all of it visible but its own ends of lines."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


class PrintableFormatter(logging.Formatter):
    """Writes each message of a log as one line; a traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        return printable_lines(super().formatException(ei))  # type: ignore[arg-type]
