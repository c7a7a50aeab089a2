"""`python -m avf.disk`: look into disk images, and take out what is in them.

Exit status: 0 done, 1 the image is damaged, of a kind that is refused, or cannot be read, 2 wrong usage.
"""

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from avf.arguments import ArgumentParser
from avf.causes import words
from avf.disk.errors import DiskError
from avf.disk.gpt_reader import TableCopy, open_partition, read_partition_table
from avf.disk.opening import open_image
from avf.disk.reader import ImageReader, copy_image
from avf.disk.report import Report, describe_image, describe_partitions, describe_table
from avf.printable import printable
from avf.printing import printable_json, put


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        with ExitStack() as stack:
            file = stack.enter_context(options.file.open("rb"))
            report: Report = options.run(options, file.fileno(), stack)
    except (DiskError, OSError) as error:
        if options.json:
            failure = {"code": type(error).__name__, "message": words(error)}
            put(printable_json({"error": failure}, indent=2))
        print(printable(words(error)), file=sys.stderr)
        return 1
    return put(printable_json(report, indent=2) if options.json else "\n".join(_lines(report)))


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m avf.disk", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = ArgumentParser(add_help=False)
    common.add_argument("file", type=Path, metavar="FILE")
    common.add_argument("--json", action="store_true", help="print a JSON object")

    command = commands.add_parser("info", parents=[common], help="format, sizes and content")
    command.add_argument("--check", action="store_true", help="look at all tables of a QCOW2 image")
    command.set_defaults(run=_info)

    command = commands.add_parser(
        "gpt", parents=[common], help="check and show the partition table"
    )
    command.add_argument(
        "--copy", type=TableCopy, metavar="primary|backup", help="one copy only (both, compared)"
    )
    command.set_defaults(run=_gpt)

    command = commands.add_parser(
        "partitions", parents=[common], help="list the partitions and what they hold"
    )
    command.set_defaults(run=_partitions)

    command = commands.add_parser("extract", parents=[common], help="copy out as a raw sparse file")
    command.add_argument("out", type=Path, metavar="OUT", help="must not exist yet")
    command.add_argument("--partition", metavar="LABEL", help="one partition only (the whole disk)")
    command.add_argument(
        "--composite", action="store_true", help="FILE may name other files, which are copied out"
    )
    command.set_defaults(run=_extract)
    return parser


def _info(options: argparse.Namespace, fd: int, _stack: ExitStack) -> Report:
    return describe_image(fd, options.file.parent, check=options.check)


def _gpt(options: argparse.Namespace, fd: int, stack: ExitStack) -> Report:
    return describe_table(read_partition_table(_open(options, fd, stack), options.copy))


def _partitions(options: argparse.Namespace, fd: int, stack: ExitStack) -> Report:
    return describe_partitions(_open(options, fd, stack))


def _extract(options: argparse.Namespace, fd: int, stack: ExitStack) -> Report:
    # What a guest wrote into its raw disk may look like a composite disk and name its owner's files.
    directory = options.file.parent if options.composite else None
    image = stack.enter_context(open_image(fd, directory=directory))
    if options.partition is not None:
        image = open_partition(image, read_partition_table(image).find(options.partition))
    with options.out.open("xb") as out:
        try:
            copy_image(image, out.fileno())
        except BaseException:
            options.out.unlink()
            raise
    return {"extracted": os.fspath(options.out), "size": image.size}


def _open(options: argparse.Namespace, fd: int, stack: ExitStack) -> ImageReader:
    return stack.enter_context(open_image(fd, directory=options.file.parent))


def _lines(value: object, indent: str = "") -> list[str]:
    """A report for people: one line for each value; of a list of objects, one line for each object."""
    if not isinstance(value, dict):
        return [f"{indent}{_text(value)}"]
    lines = []
    for name, item in value.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(item, list) and item:
            lines += [label, *(f"{indent}  {_row(one)}" for one in item)]
        else:
            lines.append(f"{label} {_text(item)}")
    return lines


def _row(item: object) -> str:
    if not isinstance(item, dict):
        return _text(item)
    return "  ".join(f"{name}={_text(value)}" for name, value in item.items())


def _text(value: object) -> str:
    """Text from an image may hold anything: it is quoted unless it is harmless."""
    if isinstance(value, str):
        return value if value.isprintable() and value.isascii() and value else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_row, value))}]" if value else "none"
    return "none" if value is None else str(value).lower()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
