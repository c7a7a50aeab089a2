"""The command `verify`: for the platforms that the manifest names, a range of them, or one."""

import argparse
import hashlib
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
from avf.apk.sdk_range import PlatformVerdict, v4_platforms, verify_platform, verify_range
from avf.apk.signers import MAX_SDK
from avf.apk.stamp import SourceStamp, StampStatus, source_stamp
from avf.apk.v1 import VerifiedV1
from avf.apk.verify import V3_SDK, Scheme


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
    add("--verify-source-stamp", action="store_true", help="refuse an APK without a good stamp")
    add("--stamp-cert-digest", type=_sha256, metavar="HEX",
        help="the same, and the SHA-256 of the stamp's certificate must be this one")  # fmt: skip
    command.set_defaults(run=run_verify, parser=command)


def _sha256(text: str) -> str:
    if len(text) != 64 or not set(text.lower()) <= set("0123456789abcdef"):
        raise argparse.ArgumentTypeError(f"no SHA-256 in hexadecimal: {text!r}")
    return text.lower()


def run_verify(options: argparse.Namespace) -> Report:
    """Verify the APK, and its idsig if there is one."""
    ends = (options.min_sdk_version, options.max_sdk_version)
    if options.sdk is not None and ends != (None, None):
        options.parser.error("--sdk does not go with --min-sdk-version and --max-sdk-version")
    with opened(options.apk) as apk:
        verdicts = _verdicts(options, apk)
        if options.require_v3:
            _require_v3(verdicts)
        if options.sdk is None:
            report = reports.verified_range(verdicts, **_details(options))
        else:
            report = reports.verified_apk(verdicts[0].apk, options.sdk, **_details(options))
        report.update(_idsig(options, apk, v4_platforms(verdicts)))
        with_v1 = any(item.apk.scheme is Scheme.V1 for item in verdicts)
        report["source_stamp"] = reports.stamp(_stamp(options, apk, with_v1))
        report["warnings"] = found = [*remarks_on(apk), *_v1_warnings(verdicts)]
        if found and options.werr:
            raise VerificationError(f"warnings count as errors: {'; '.join(found)}")
        return report


def _verdicts(options: argparse.Namespace, apk: int) -> tuple[PlatformVerdict, ...]:
    high = MAX_SDK if options.max_sdk_version is None else options.max_sdk_version
    with bar("verifying", apk) as progress:
        if options.sdk is None:
            return verify_range(
                apk, min_sdk=options.min_sdk_version, max_sdk=high, progress=progress
            )
        verified = verify_platform(apk, options.sdk, progress=progress)
        return (PlatformVerdict(options.sdk, options.sdk, verified),)


def _stamp(options: argparse.Namespace, apk: int, with_v1: bool) -> SourceStamp:
    """The stamp; VerificationError if it must be good and is not."""
    stamp = source_stamp(apk, with_v1=with_v1)
    wanted: str | None = options.stamp_cert_digest
    if not (options.verify_source_stamp or wanted) or stamp.status is StampStatus.VERIFIED:
        found = hashlib.sha256(stamp.certificate or b"").hexdigest()
        if wanted and found != wanted:
            raise VerificationError(f"the source stamp has a certificate with SHA-256 {found}")
        return stamp
    reason = stamp.reason or "the APK has none"
    raise VerificationError(f"the source stamp is not verified: {reason}")


def _v1_warnings(verdicts: tuple[PlatformVerdict, ...]) -> list[str]:
    found = [item.apk.warnings for item in verdicts if isinstance(item.apk, VerifiedV1)]
    return list(found[0]) if found else []


def _require_v3(verdicts: tuple[PlatformVerdict, ...]) -> None:
    for verdict in verdicts:
        if verdict.max_sdk >= V3_SDK and verdict.apk.scheme in (Scheme.V1, Scheme.V2):
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
