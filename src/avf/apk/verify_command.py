"""The command `verify`: for the platforms that the manifest names, a range of them, or one."""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from avf.apk import reports
from avf.apk.errors import SchemeNotFound, VerificationError
from avf.apk.files import opened
from avf.apk.idsig_verify import verify_idsig_for
from avf.apk.progress import bar
from avf.apk.remarks import remarks_on
from avf.apk.reports import Report
from avf.apk.sdk_range import PlatformVerdict, v4_platforms, verify_range
from avf.apk.signers import MAX_SDK
from avf.apk.verify import V3_SDK, Scheme, verify


def add_verify(command: argparse.ArgumentParser, sdk: Callable[[str], int]) -> None:
    """The options of `verify`."""
    add = command.add_argument
    add("--min-sdk-version", type=sdk, metavar="N", help="lowest SDK (what the manifest says)")
    add("--max-sdk-version", type=sdk, metavar="N", help="highest SDK (no end)")
    add("--sdk", type=sdk, metavar="N", help="the view of this platform alone")
    add("--print-certs", action="store_true", help="show every certificate; with -v the keys too")
    add("-Werr", action="store_true", dest="werr", help="refuse an APK with something odd in it")
    add("--require-v3", action="store_true", help="do not accept v2 where v3 is known")
    idsig = command.add_mutually_exclusive_group()
    idsig.add_argument("--idsig", type=Path, metavar="FILE", help="check this idsig too")
    idsig.add_argument(
        "--v4-signature-file", type=Path, metavar="FILE", help="the same, which must be signed"
    )
    add("--require-v4", action="store_true", help="do not accept an idsig without a signature")
    command.set_defaults(run=run_verify, parser=command)


def run_verify(options: argparse.Namespace) -> Report:
    """Verify the APK, and its idsig if there is one."""
    ends = (options.min_sdk_version, options.max_sdk_version)
    if options.sdk is not None and ends != (None, None):
        options.parser.error("--sdk does not go with --min-sdk-version and --max-sdk-version")
    with opened(options.apk) as apk:
        report = _one(options, apk) if options.sdk is not None else _range(options, apk)
        report["warnings"] = found = remarks_on(apk)
        if found and options.werr:
            raise VerificationError(f"warnings count as errors: {'; '.join(found)}")
        return report


def _one(options: argparse.Namespace, apk: int) -> Report:
    allow_v2 = not options.require_v3
    with bar("verifying", apk) as progress:
        verified = verify(apk, sdk=options.sdk, allow_v2=allow_v2, progress=progress)
    report = reports.verified_apk(verified, options.sdk, **_details(options))
    return {**report, **_idsig(options, apk, [options.sdk])}


def _range(options: argparse.Namespace, apk: int) -> Report:
    high = MAX_SDK if options.max_sdk_version is None else options.max_sdk_version
    with bar("verifying", apk) as progress:
        verdicts = verify_range(
            apk, min_sdk=options.min_sdk_version, max_sdk=high, progress=progress
        )
    if options.require_v3:
        _require_v3(verdicts)
    report = reports.verified_range(verdicts, **_details(options))
    return {**report, **_idsig(options, apk, v4_platforms(verdicts))}


def _require_v3(verdicts: tuple[PlatformVerdict, ...]) -> None:
    for verdict in verdicts:
        if verdict.max_sdk >= V3_SDK and verdict.apk.scheme is Scheme.V2:
            raise SchemeNotFound(f"SDK {max(verdict.min_sdk, V3_SDK)}: there is no v3 signature")


def _details(options: argparse.Namespace) -> dict[str, bool]:
    wanted = options.print_certs
    return {"certificates": wanted, "keys": wanted and options.verbose}


def _idsig(options: argparse.Namespace, apk: int, sdks: list[int]) -> Report:
    path = options.idsig or options.v4_signature_file
    if not path:
        return {}
    with ExitStack() as stack:
        idsig = stack.enter_context(opened(path))
        progress = stack.enter_context(bar("checking the idsig", apk))
        found = verify_idsig_for(
            apk,
            idsig,
            sdks,
            allow_v2=not options.require_v3,
            require_signature=bool(options.require_v4 or options.v4_signature_file),
            allow_no_tree=True,
            progress=progress,
        )
    return {"idsig": reports.verified_idsig(found)}
