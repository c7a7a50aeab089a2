"""`python -m avf.apk`: verify, inspect and sign APKs and their idsigs.

Exit status: 0 done, 1 the APK or idsig is not good (or a file cannot be used), 2 wrong usage.
"""

import argparse
import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from avf.apk import reports
from avf.apk.algorithms import SignatureAlgorithm
from avf.apk.errors import ApkError, SigningError
from avf.apk.idsig import Idsig
from avf.apk.idsig_update import create_or_update_idsig
from avf.apk.idsig_verify import verify_idsig
from avf.apk.progress import Bar
from avf.apk.reports import Report
from avf.apk.source import open_source
from avf.apk.verify import DEFAULT_SDK, Scheme, verify


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
    file = error.filename if isinstance(error, OSError) and error.filename else options.apk
    failure = reports.failure(error, os.fsdecode(file))
    if options.json:
        report = {"verified": False} if options.run is _verify else {}
        print(json.dumps({**report, "error": failure}, indent=2))
    offset = failure["offset"]
    where = "" if offset is None else f" (at byte {offset})"
    print(f"{failure['file']}: {failure['message']}{where}", file=sys.stderr)
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
    command.set_defaults(run=_verify)

    command = commands.add_parser("info", parents=[apk], help="show what is in an APK, unproved")
    command.set_defaults(run=_info)

    command = commands.add_parser("idsig", parents=[apk, platform], help="make or update an idsig")
    command.add_argument("out", type=Path, metavar="OUT")
    command.add_argument("--allow-v2", action="store_true", help="accept an APK without v3")
    command.set_defaults(run=_idsig)

    _add_sign(commands.add_parser("sign", parents=[apk], help="sign with v2 and v3, or v3.1"))
    command = commands.add_parser("rotate", parents=[common], help="let a key hand on to another")
    command.add_argument("apk", type=Path, metavar="LINEAGE", help="file to extend or to make")
    for name in ("old", "new"):
        command.add_argument(f"--{name}-key", type=Path, required=True, metavar="FILE")
        command.add_argument(f"--{name}-cert", type=Path, required=True, metavar="FILE")
    command.set_defaults(run=_rotate)
    return parser


def _add_sign(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="FILE")
    command.add_argument("--key", type=Path, required=True, help="private key, PEM or DER")
    command.add_argument("--cert", type=Path, required=True, help="certificate, PEM or DER")
    command.add_argument("--idsig", type=Path, metavar="FILE", help="write a signed idsig too")
    command.add_argument("--min-sdk", type=_sdk, metavar="N", help="lowest SDK for v3")
    command.add_argument(
        "--scheme", action="append", choices=["v2", "v3"], help="may be repeated (both)"
    )
    command.add_argument(
        "--algorithm",
        action="append",
        choices=[item.name for item in SignatureAlgorithm],
        metavar="NAME",
        help="may be repeated (what apksigner takes for the key)",
    )
    rotation = command.add_argument_group("for a key that another one handed on to")
    rotation.add_argument("--old-key", type=Path, metavar="FILE", help="the first key")
    rotation.add_argument("--old-cert", type=Path, metavar="FILE")
    rotation.add_argument(
        "--lineage", type=Path, metavar="FILE", help="from the first key to --key"
    )
    rotation.add_argument(
        "--rotation-min-sdk", type=_sdk, default=33, metavar="N", help="first with --key (33)"
    )
    command.set_defaults(run=_sign, parser=command)


def _sdk(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 0x7FFFFFFF:
        raise argparse.ArgumentTypeError(f"no SDK number: {text}")
    return value


def _verify(options: argparse.Namespace) -> Report:
    with ExitStack() as stack:
        apk = stack.enter_context(options.apk.open("rb"))
        idsig = stack.enter_context(options.idsig.open("rb")) if options.idsig else None
        allow_v2 = not options.require_v3
        with _bar("verifying", apk) as bar:
            verified = verify(apk.fileno(), sdk=options.sdk, allow_v2=allow_v2, progress=bar)
        report = reports.verified_apk(verified, options.sdk)
        if idsig:
            with _bar("checking the idsig", apk) as bar:
                found = verify_idsig(
                    apk.fileno(),
                    idsig.fileno(),
                    sdk=options.sdk,
                    allow_v2=allow_v2,
                    require_signature=options.require_v4,
                    progress=bar,
                )
            report["idsig"] = reports.verified_idsig(found)
        return report


def _info(options: argparse.Namespace) -> Report:
    with options.apk.open("rb") as file:
        return reports.contents(open_source(file.fileno()))


def _idsig(options: argparse.Namespace) -> Report:
    with ExitStack() as stack:
        apk = stack.enter_context(options.apk.open("rb"))
        is_new = not options.out.exists()
        options.out.touch()
        out = stack.enter_context(options.out.open("r+b"))
        undo = stack.enter_context(ExitStack())
        if is_new:
            undo.callback(options.out.unlink)
        with _bar("hashing", apk) as bar:
            written = create_or_update_idsig(
                apk.fileno(),
                out.fileno(),
                sdk=options.sdk,
                allow_v2=options.allow_v2,
                progress=bar,
            )
        undo.pop_all()
        return reports.made_idsig(Idsig.parse(out.fileno()), written)


def _sign(options: argparse.Namespace) -> Report:
    from avf.apk.keys import SigningKey
    from avf.apk.lineage import parse_lineage_file
    from avf.apk.signing import DEFAULT_MIN_SDK, Rotation, sign, sign_idsig

    if options.out.exists() and options.out.samefile(options.apk):
        raise SigningError("an APK cannot be signed in place")
    given = [options.old_key, options.old_cert, options.lineage]
    if any(given) and not all(given):
        options.parser.error("--old-key, --old-cert and --lineage go together")
    key = SigningKey.load(options.key.read_bytes(), options.cert.read_bytes())
    rotation = None
    if options.lineage:
        old = SigningKey.load(options.old_key.read_bytes(), options.old_cert.read_bytes())
        lineage = parse_lineage_file(options.lineage.read_bytes())
        rotation = Rotation(old, lineage, options.rotation_min_sdk)
    min_sdk = DEFAULT_MIN_SDK if options.min_sdk is None else options.min_sdk
    with ExitStack() as stack:
        apk = stack.enter_context(options.apk.open("rb"))
        out = stack.enter_context(options.out.open("w+b"))
        undo = stack.enter_context(ExitStack())
        undo.callback(options.out.unlink)
        sign(
            apk.fileno(),
            out,
            key,
            schemes=[Scheme(name) for name in options.scheme or ("v2", "v3")],
            algorithms=[SignatureAlgorithm[name] for name in options.algorithm or ()],
            min_sdk=min_sdk,
            rotation=rotation,
        )
        sdk = max(DEFAULT_SDK, min_sdk)
        verified = verify(out.fileno(), sdk=sdk, allow_v2=True)
        if options.idsig:
            idsig = Idsig.create(out.fileno(), sdk=sdk, allow_v2=True)
            sign_idsig(idsig, verified.size, key)
            with options.idsig.open("wb") as file:
                idsig.write(file.fileno())
        undo.pop_all()
    return {"signed": str(options.out), **reports.verified_apk(verified, sdk)}


def _rotate(options: argparse.Namespace) -> Report:
    from avf.apk.keys import SigningKey
    from avf.apk.lineage import encode_lineage_file, parse_lineage_file
    from avf.apk.signing import rotate

    old = SigningKey.load(options.old_key.read_bytes(), options.old_cert.read_bytes())
    new = SigningKey.load(options.new_key.read_bytes(), options.new_cert.read_bytes())
    known = parse_lineage_file(options.apk.read_bytes()) if options.apk.exists() else ()
    lineage = rotate(old, new, known)
    options.apk.write_bytes(encode_lineage_file(lineage))
    return {"lineage": reports.lineage(lineage)}


def _bar(label: str, file: BinaryIO) -> Bar:
    return Bar(sys.stderr, label, os.fstat(file.fileno()).st_size)


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
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
