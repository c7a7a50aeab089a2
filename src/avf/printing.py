"""Reports that hold text of others, as a terminal may show them."""

import json
import os
import sys

from avf.printable import printable


def printable_json(value: object, indent: int | None = None) -> str:
    """JSON in ASCII, all of it visible but its own ends of lines."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def put(text: str) -> int:
    """Print a report; the exit status, which is 1 if standard output does not take it. Standard error says why."""
    try:
        print(text, flush=True)
    except OSError as error:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())
        print(printable(f"standard output: {error.strerror}"), file=sys.stderr)
        return 1
    return 0
