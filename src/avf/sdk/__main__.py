"""`python -m avf.sdk --cflags --libs`: the options for native payloads, as pkg-config prints them."""

import argparse
import shlex
import sys

from avf.sdk import INCLUDE, cflags, libs


def main(arguments: list[str] | None = None) -> int:
    """Prints what was asked for in one line; 2 if nothing was."""
    parser = argparse.ArgumentParser(prog="python -m avf.sdk", description=__doc__)
    parser.add_argument("--cflags", action="store_true", help="options for compiling")
    parser.add_argument("--libs", action="store_true", help="options for linking")
    parser.add_argument("--includedir", action="store_true", help="the folder with the headers")
    options = parser.parse_args(arguments)
    words = [
        *([str(INCLUDE)] if options.includedir else []),
        *(cflags() if options.cflags else []),
        *(libs() if options.libs else []),
    ]
    if not words:
        parser.error("nothing was asked for: use --cflags, --libs or --includedir")
    print(shlex.join(words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
