"""Reports that hold text of others, as a terminal may show them."""

import json


def printable_json(value: object, indent: int | None = None) -> str:
    """JSON in ASCII, all of it visible but its own ends of lines."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")
