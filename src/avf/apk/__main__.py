"""`python -m avf.apk`: verify, inspect and sign APKs and their idsigs.

Exit status: 0 done, 1 the APK or idsig is not good (or the file cannot be used), 2 wrong usage.
"""

import argparse
import hashlib
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from avf.apk.algorithms import algorithm_text
from avf.apk.errors import ApkError, SigningError
from avf.apk.idsig import Idsig
from avf.apk.idsig_update import create_or_update_idsig
from avf.apk.signing_block import find_signing_block
from avf.apk.source import open_source
from avf.apk.verify import DEFAULT_SDK, verify
from avf.apk.zip import iter_entries

Report: TypeAlias = dict[str, object]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        report: Report = options.run(options)
    except (ApkError, OSError) as error:
        print(f"{options.apk}: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name}: {_text(value)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m avf.apk", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("apk", type=Path, metavar="APK")
    common.add_argument("--json", action="store_true", help="print a JSON object")
    scheme = argparse.ArgumentParser(add_help=False)
    scheme.add_argument("--sdk", type=int, default=DEFAULT_SDK, help="platform SDK (%(default)s)")
    scheme.add_argument("--allow-v2", action="store_true", help="accept an APK without v3")

    command = commands.add_parser(
        "verify", parents=[common, scheme], help="check signature and contents"
    )
    command.set_defaults(run=_verify)
    command = commands.add_parser("info", parents=[common], help="show what is in an APK")
    command.set_defaults(run=_info)
    command = commands.add_parser("idsig", parents=[common, scheme], help="make or update an idsig")
    command.add_argument("idsig", type=Path, metavar="IDSIG")
    command.set_defaults(run=_idsig)
    command = commands.add_parser("sign", parents=[common], help="sign with v2 and v3")
    command.add_argument("--out", type=Path, required=True, metavar="FILE")
    command.add_argument("--key", type=Path, required=True, help="private key, PEM")
    command.add_argument("--cert", type=Path, required=True, help="certificate, PEM")
    command.add_argument("--idsig", type=Path, metavar="FILE", help="write a signed idsig too")
    command.set_defaults(run=_sign)
    return parser


def _verify(options: argparse.Namespace) -> Report:
    with options.apk.open("rb") as file:
        verified = verify(file.fileno(), sdk=options.sdk, allow_v2=options.allow_v2)
    return {
        "verified": True,
        "scheme": verified.scheme.value,
        "algorithm": verified.algorithm.name,
        "content digest": verified.digest.hex(),
        "min SDK": verified.min_sdk,
        "max SDK": verified.max_sdk,
        "certificate SHA-256": hashlib.sha256(verified.certificates[0]).hexdigest(),
        "public key SHA-256": hashlib.sha256(verified.public_key).hexdigest(),
        "size": verified.size,
    }


def _info(options: argparse.Namespace) -> Report:
    with options.apk.open("rb") as file:
        apk = find_signing_block(open_source(file.fileno()))
        names = [
            {"name": entry.name, "size": entry.size, "mode": f"{entry.mode:o}"}
            for entry in iter_entries(apk.source, apk.zip)
        ]
        return {
            "size": apk.zip.size,
            "signing block": f"{apk.block_size} bytes at {apk.block_offset}",
            "values": [f"{pair_id:#010x}" for pair_id in apk.ids()],
            "entries": names,
        }


def _idsig(options: argparse.Namespace) -> Report:
    with ExitStack() as stack:
        apk = stack.enter_context(options.apk.open("rb"))
        options.idsig.touch()
        out = stack.enter_context(options.idsig.open("r+b"))
        written = create_or_update_idsig(
            apk.fileno(), out.fileno(), sdk=options.sdk, allow_v2=options.allow_v2
        )
        idsig = Idsig.parse(out.fileno())
    return {
        "written": written,
        "root hash": idsig.root_hash.hex(),
        "APK digest": idsig.apk_digest.hex(),
        "algorithm": algorithm_text(idsig.signature_algorithm_id),
        "tree": f"{idsig.tree_size} bytes at {idsig.tree_offset}",
    }


def _sign(options: argparse.Namespace) -> Report:
    from avf.apk.keys import SigningKey
    from avf.apk.signing import sign, sign_idsig

    if options.out.exists() and options.out.samefile(options.apk):
        raise SigningError("an APK cannot be signed in place")
    key = SigningKey.from_pem(options.key.read_bytes(), options.cert.read_bytes())
    with options.apk.open("rb") as apk, options.out.open("w+b") as out:
        sign(apk.fileno(), out, key)
        if options.idsig:
            idsig = Idsig.create(out.fileno())
            sign_idsig(idsig, out.seek(0, 2), key)
            with options.idsig.open("wb") as file:
                idsig.write(file.fileno())
    return {"signed": str(options.out), "algorithm": key.algorithm.name}


def _text(value: object) -> str:
    if isinstance(value, list):
        return "".join(f"\n  {_text(item)}" for item in value)
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values())
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main())
