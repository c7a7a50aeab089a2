"""`python -m avf.apk`: verify, inspect and sign APKs and their idsigs.

Exit status: 0 done, 1 the APK or idsig is not good (or a file cannot be used), 2 wrong usage.
"""

import argparse
import io
import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from avf.apk import reports
from avf.apk.errors import ApkError
from avf.apk.files import about, opened
from avf.apk.idsig import Idsig
from avf.apk.idsig_update import create_or_update_idsig, idsig_is_current
from avf.apk.idsig_verify import verify_idsig
from avf.apk.output import Outputs, check_collisions
from avf.apk.progress import Bar
from avf.apk.reports import Report
from avf.apk.sign_command import add_rotate, add_sign
from avf.apk.signers import MAX_SDK
from avf.apk.source import open_source
from avf.apk.terminal import printable
from avf.apk.verify import DEFAULT_SDK, verify


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        report: Report = options.run(options)
    except (ApkError, OSError) as error:
        return _fail(options, error)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(_lines(report)))
    return 0


def _fail(options: argparse.Namespace, error: ApkError | OSError) -> int:
    known = error.file if isinstance(error, ApkError) else error.filename
    failure = reports.failure(error, os.fsdecode(known or options.apk))
    if options.json:
        report = {"verified": False} if options.run is _verify_as_asked else {}
        print(json.dumps({**report, "error": failure}, indent=2))
    offset = failure["offset"]
    where = "" if offset is None else f" (at byte {offset})"
    print(printable(f"{failure['file']}: {failure['message']}{where}"), file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m avf.apk", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print a JSON object")
    apk = argparse.ArgumentParser(add_help=False, parents=[common])
    apk.add_argument("apk", type=Path, metavar="APK")
    platform = argparse.ArgumentParser(add_help=False)
    platform.add_argument(
        "--sdk", type=_sdk, default=DEFAULT_SDK, metavar="N", help="platform SDK (%(default)s)"
    )

    command = commands.add_parser(
        "verify", parents=[apk, platform], help="check signature and contents"
    )
    command.add_argument("--require-v3", action="store_true", help="do not accept v2 alone")
    command.add_argument("--idsig", type=Path, metavar="FILE", help="check this idsig too")
    command.add_argument(
        "--require-v4", action="store_true", help="do not accept an idsig without a signature"
    )
    for end, default in (("min", "what the manifest says"), ("max", "no end")):
        command.add_argument(
            f"--{end}-sdk-version",
            type=_sdk,
            metavar="N",
            help=f"check every platform of a range ({default})",
        )
    command.set_defaults(run=_verify_as_asked, parser=command)

    command = commands.add_parser("info", parents=[apk], help="show what is in an APK, unproved")
    command.set_defaults(run=_info)

    command = commands.add_parser("idsig", parents=[apk, platform], help="make or update an idsig")
    command.add_argument("out", type=Path, metavar="OUT")
    command.add_argument("--allow-v2", action="store_true", help="accept an APK without v3")
    command.set_defaults(run=_idsig)

    command = commands.add_parser("sign", parents=[apk], help="sign with v2 and v3, or v3.1")
    add_sign(command, _sdk)
    command = commands.add_parser("rotate", parents=[common], help="let a key hand on to another")
    add_rotate(command)
    return parser


def _sdk(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 0x7FFFFFFF:
        raise argparse.ArgumentTypeError(f"no SDK number: {text}")
    return value


def _verify(options: argparse.Namespace) -> Report:
    allow_v2 = not options.require_v3
    with ExitStack() as stack:
        apk = stack.enter_context(opened(options.apk))
        with _bar("verifying", apk) as bar:
            verified = verify(apk, sdk=options.sdk, allow_v2=allow_v2, progress=bar)
        report = reports.verified_apk(verified, options.sdk)
        if options.idsig:
            idsig = stack.enter_context(opened(options.idsig))
            with _bar("checking the idsig", apk) as bar:
                found = verify_idsig(
                    apk,
                    idsig,
                    sdk=options.sdk,
                    allow_v2=allow_v2,
                    require_signature=options.require_v4,
                    progress=bar,
                )
            report["idsig"] = reports.verified_idsig(found)
        return report


def _verify_range(options: argparse.Namespace) -> Report:
    from avf.apk.sdk_range import verify_range

    if options.idsig or options.require_v3 or options.require_v4:
        options.parser.error("a range of SDKs does not go with --require-v3 and --idsig")
    with opened(options.apk) as apk, _bar("verifying", apk) as bar:
        low, high = options.min_sdk_version, options.max_sdk_version
        verdicts = verify_range(
            apk, min_sdk=low, max_sdk=MAX_SDK if high is None else high, progress=bar
        )
        return reports.verified_range(verdicts)


def _verify_as_asked(options: argparse.Namespace) -> Report:
    if options.min_sdk_version is None and options.max_sdk_version is None:
        return _verify(options)
    return _verify_range(options)


def _info(options: argparse.Namespace) -> Report:
    with opened(options.apk) as apk:
        return reports.contents(open_source(apk))


def _idsig(options: argparse.Namespace) -> Report:
    check_collisions([options.apk], [options.out])
    scheme = {"sdk": options.sdk, "allow_v2": options.allow_v2}
    with opened(options.apk) as apk, about(options.out), Outputs() as outputs:
        if _is_current(apk, options, scheme):
            with opened(options.out) as idsig:
                return reports.made_idsig(Idsig.parse(idsig), False)
        out = outputs.open(options.out).fileno()
        with about(options.apk), _bar("hashing", apk) as bar:
            create_or_update_idsig(apk, out, **scheme, progress=bar)
        report = reports.made_idsig(Idsig.parse(out), True)
        outputs.commit()
        return report


def _is_current(apk: int, options: argparse.Namespace, scheme: Any) -> bool:
    if not options.out.is_file():
        return False
    with opened(options.out) as idsig, about(options.apk):
        return idsig_is_current(apk, idsig, **scheme)


def _bar(label: str, fd: int) -> Bar:
    return Bar(sys.stderr, label, os.fstat(fd).st_size)


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
