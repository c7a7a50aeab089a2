"""`python -m avf.apk`: verify, inspect and sign APKs and their idsigs.

Exit status: 0 done, 1 the APK or idsig is not good (or a file cannot be used), 2 wrong usage.
"""

import argparse
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

from avf.apk import reports
from avf.apk.align_command import add_align
from avf.apk.errors import ApkError
from avf.apk.files import about, opened, room_for
from avf.apk.idsig import Idsig
from avf.apk.idsig_update import create_or_update_idsig, idsig_is_current
from avf.apk.lineage_command import add_lineage, add_rotate
from avf.apk.output import Outputs, check_collisions
from avf.apk.progress import bar
from avf.apk.reports import Report
from avf.apk.sign_command import add_sign
from avf.apk.signer_options import join_booleans
from avf.apk.source import open_source
from avf.apk.stamp import source_stamp
from avf.apk.verify import DEFAULT_SDK
from avf.apk.verify_command import add_verify, run_verify
from avf.arguments import ArgumentParser
from avf.overwriting import Kind
from avf.printable import printable
from avf.printing import printable_json, put


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    parser = _parser()
    options = parser.parse_args(join_booleans(sys.argv[1:] if arguments is None else arguments))
    _name_apk(parser, options)
    try:
        report: Report = options.run(options)
    except (ApkError, OSError) as error:
        return _fail(options, error)
    return put(printable_json(report, indent=2) if options.json else "\n".join(_lines(report)))


def _fail(options: argparse.Namespace, error: ApkError | OSError) -> int:
    known = error.file if isinstance(error, ApkError) else error.filename
    failure = reports.failure(error, os.fsdecode(known or options.apk or options.out))
    if options.json:
        report = {"verified": False} if options.run is run_verify else {}
        put(printable_json({**report, "error": failure}, indent=2))
    offset = failure["offset"]
    where = "" if offset is None else f" (at byte {offset})"
    print(printable(f"{failure['file']}: {failure['message']}{where}"), file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m avf.apk", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print a JSON object")
    common.add_argument("-v", "--verbose", action="store_true", help="say more")
    apk = ArgumentParser(add_help=False, parents=[common])
    apk.add_argument("named", type=Path, nargs="*", metavar="APK")
    apk.add_argument(
        "--in", type=Path, dest="apk", metavar="APK", help="the APK, instead of naming it last"
    )

    def add(name: str, parent: ArgumentParser, text: str) -> ArgumentParser:
        return commands.add_parser(name, parents=[parent], help=text, allow_abbrev=False)

    add_verify(add("verify", apk, "check signature and contents"), _sdk)
    add("info", apk, "show what is in an APK, unproved").set_defaults(run=_info)
    command = add("idsig", common, "make or update an idsig")
    command.add_argument("apk", type=Path, metavar="APK")
    command.add_argument("out", type=Path, metavar="OUT")
    command.add_argument("--allow-v2", action="store_true", help="accept an APK without v3")
    command.add_argument(
        "--sdk", type=_sdk, default=DEFAULT_SDK, metavar="N", help="platform SDK (%(default)s)"
    )
    command.set_defaults(run=_idsig)
    add_sign(add("sign", apk, "sign with v1, v2, v3, v3.1 and v4"), _sdk)
    add_align(add("align", apk, "check or repair where stored entries begin"))
    add_rotate(add("rotate", common, "let a key hand on to another"))
    add_lineage(add("lineage", common, "show a lineage, or change capabilities in it"))
    return parser


def _name_apk(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Take the APK from where it is named: behind the options or by one of them."""
    if "named" not in options:
        return
    found = [*options.named, *([options.apk] if options.apk else [])]
    if len(found) != 1:
        parser.error("name one APK")
    options.apk = found[0]


def _sdk(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 0x7FFFFFFF:
        raise argparse.ArgumentTypeError(f"no SDK number: {text}")
    return value


def _info(options: argparse.Namespace) -> Report:
    with opened(options.apk) as apk:
        return reports.contents(open_source(apk), source_stamp(apk, with_v1=False))


def _idsig(options: argparse.Namespace) -> Report:
    check_collisions([options.apk], [options.out])
    scheme = {"sdk": options.sdk, "allow_v2": options.allow_v2}
    with opened(options.apk) as apk, about(options.out), Outputs() as outputs:
        if _is_current(apk, options, scheme):
            with opened(options.out) as idsig:
                return reports.made_idsig(Idsig.parse(idsig), False)
        out = outputs.open(options.out, Kind.IDSIG).fileno()
        with about(options.apk), room_for(options.out), bar("hashing", apk) as progress:
            create_or_update_idsig(apk, out, **scheme, progress=progress)
        report = reports.made_idsig(Idsig.parse(out), True)
        outputs.commit()
        return report


def _is_current(apk: int, options: argparse.Namespace, scheme: Any) -> bool:
    if not options.out.is_file():
        return False
    with opened(options.out) as idsig, about(options.apk):
        return idsig_is_current(apk, idsig, **scheme)


def _lines(value: object, indent: str = "") -> list[str]:
    """A report for people: one line for each value, lists and objects indented below their name."""
    lines: list[str] = []
    if isinstance(value, dict):
        for name, item in value.items():
            label = f"{indent}{name.replace('_', ' ')}:"
            if isinstance(item, dict) or (isinstance(item, list) and item):
                lines += [label, *_lines(item, indent + "  ")]
            else:
                lines.append(f"{label} {_text(item)}")
    elif isinstance(value, list):
        for item in value:
            first, *rest = _lines(item, indent + "  ") or [""]
            lines += [f"{indent}- {first.strip()}", *rest]
    else:
        lines.append(f"{indent}{_text(value)}")
    return lines


def _text(value: object) -> str:
    if value is None or value == []:
        return "none"
    return str(value).lower() if isinstance(value, bool) else printable(str(value))


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
