"""The command `sign`: options, keys and outputs. Needs `cryptography` once it runs."""

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from avf.apk import reports
from avf.apk.algorithms import SignatureAlgorithm
from avf.apk.align_command import add_page
from avf.apk.errors import ApkError, SigningError
from avf.apk.files import about, opened
from avf.apk.idsig_verify import check_idsig_signers
from avf.apk.lineage_files import read_lineage
from avf.apk.output import Outputs, check_collisions
from avf.apk.passwords import Passwords
from avf.apk.reports import Report
from avf.apk.sdk_range import PlatformVerdict, manifest_sdks, v4_platforms, verify_range
from avf.apk.signer_options import (
    SignerOptions,
    add_signers,
    boolean,
    check_signers,
    load_all,
)
from avf.apk.signers import MAX_SDK
from avf.apk.stamp import StampStatus, source_stamp
from avf.apk.verify import DEFAULT_SDK, V3_1_SDK, Scheme
from avf.overwriting import Kind

if TYPE_CHECKING:
    from avf.apk.keys import SigningKey
    from avf.apk.signing_plan import Plan
    from avf.apk.stamp_sign import StampSigner

_ONLY = "only"
_STAMP = ("--stamp-signer", "the options that follow are of the signer of a source stamp")
_NEXT = ("--next-signer", "the options that follow are of another signer")


class Platforms(NamedTuple):
    """Those that are to accept the result."""

    low: int
    high: int


def add_sign(command: argparse.ArgumentParser, sdk: Callable[[str], int]) -> None:
    """The options of `sign`."""
    out = command.add_mutually_exclusive_group()
    out.add_argument("--out", type=Path, metavar="FILE")
    out.add_argument("--in-place", action="store_true", help="replace APK by the signed one")
    _add_schemes(command)
    _add_platforms(command, sdk)
    add = command.add_argument
    add("--alignment-preserved", type=boolean, default=False, metavar="true|false",
        help="leave stored entries where they are (false)")  # fmt: skip
    add_page(command)
    add("--debuggable-apk-permitted", type=boolean, default=True, metavar="true|false",
        help="sign an APK that is debuggable (true)")  # fmt: skip
    add("--lineage", type=Path, metavar="FILE", help="file or APK with a lineage to the newest key")
    add_signers(command, [_NEXT, _STAMP], capabilities=False)
    _add_stamp(command)
    command.set_defaults(run=run_sign, parser=command)


def _add_schemes(command: argparse.ArgumentParser) -> None:
    for n in (1, 2, 3):
        command.add_argument(
            f"--v{n}-signing-enabled",
            type=boolean,
            metavar="true|false",
            help=f"use v{n} (where a platform of the range knows it)",
        )
    add = command.add_argument
    add("--v4-signing-enabled", choices=["true", "false", _ONLY], metavar="true|false|only",
        help="write a signed idsig (false); only: no APK")  # fmt: skip
    add("--v4-no-merkle-tree", action="store_true", help="write an idsig without its tree")
    add("--idsig", type=Path, metavar="FILE", help="where the idsig goes (the APK's name .idsig)")
    add("--verity-enabled", type=boolean, default=False, metavar="true|false",
        help="record a verity digest too (false)")  # fmt: skip
    add("--algorithm", action="append", choices=[item.name for item in SignatureAlgorithm],
        metavar="NAME", help="may be repeated (what apksigner takes for the key)")  # fmt: skip


def _add_stamp(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--stamp-lineage",
        type=Path,
        metavar="FILE",
        help="file or APK with the lineage of the stamp's key",
    )
    add("--stamp-timestamp-enabled", type=boolean, default=True, metavar="true|false",
        help="say in the stamp when it was made (true)")  # fmt: skip
    add("--force-stamp-overwrite", type=boolean, default=False, metavar="true|false",
        help="replace the stamp of another signer (false)")  # fmt: skip


def _add_platforms(command: argparse.ArgumentParser, sdk: Callable[[str], int]) -> None:
    add = command.add_argument
    add("--min-sdk-version", type=sdk, metavar="N", help="lowest SDK (what the manifest says)")
    add("--max-sdk-version", type=sdk, default=MAX_SDK, metavar="N", help="highest SDK (no end)")
    add("--rotation-min-sdk-version", type=sdk, default=V3_1_SDK, metavar="N",
        help="lowest SDK that the newest key signs for (%(default)s)")  # fmt: skip
    add("--rotation-targets-dev-release", action="store_true",
        help="this SDK is that of a platform whose successor is meant")  # fmt: skip


def run_sign(options: argparse.Namespace) -> Report:
    """Sign, verify the result, and only then give the outputs their names."""
    out, idsig = _check_options(options)
    given = check_signers(options)
    signers = [signer for signer in given if signer.role != _STAMP[0]]
    if not signers or len(given) - len(signers) > 1:
        options.parser.error(f"give a signer, and {_STAMP[0]} once at most")
    _check_paths(options, [path for signer in given for path in signer.paths()], out, idsig)
    passwords = Passwords()
    keys = load_all(signers, passwords)
    stamp = _stamp(options, [signer for signer in given if signer not in signers], passwords)
    with ExitStack() as stack:
        apk = stack.enter_context(opened(options.apk))
        platforms = _platforms(options, apk)
        plan = _plan(options, keys, platforms)
        names = {
            key.certificate: signer.v1_name() for key, signer in zip(keys, signers, strict=True)
        }
        outputs = stack.enter_context(Outputs())
        signed = (
            apk
            if out is None
            else _write_apk(
                options, plan, names, apk, outputs.open(out, Kind.APK), platforms.low, stamp
            )
        )
        verdicts = _verdicts(signed, platforms)
        found = _check_stamp(signed, plan) if stamp else {}
        report: Report = {"signed": None if out is None else str(out)}
        report["idsig"] = None if idsig is None else str(idsig)
        if idsig is not None:
            with about(idsig):
                idsig_fd = outputs.open(idsig, Kind.IDSIG).fileno()
            _write_idsig(options, plan, signed, (idsig, idsig_fd), verdicts)
        outputs.commit()
    return {**report, **reports.verified_range(verdicts), **found}


def _check_options(options: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """The outputs: the APK and the idsig, as far as they are wanted."""
    only = options.v4_signing_enabled == _ONLY
    if only == bool(options.out or options.in_place):
        options.parser.error("give --out FILE or --in-place, or --v4-signing-enabled only")
    wanted = options.v4_signing_enabled not in (None, "false")
    if options.v4_signing_enabled == "false" and (options.idsig or options.v4_no_merkle_tree):
        options.parser.error("--idsig and --v4-no-merkle-tree do not go without v4")
    if options.verity_enabled and options.algorithm:
        options.parser.error("--verity-enabled does not go with --algorithm")
    out: Path | None = None if only else options.out or options.apk
    idsig: Path | None = options.idsig
    if idsig is None and (wanted or options.v4_no_merkle_tree):
        base = out or options.apk
        idsig = base.with_name(f"{base.name}.idsig")
    return out, idsig


def _check_paths(
    options: argparse.Namespace, keys: list[Path], out: Path | None, idsig: Path | None
) -> None:
    inputs = [*keys, *(path for path in (options.lineage, options.stamp_lineage) if path)]
    if not options.in_place:
        inputs.append(options.apk)
    check_collisions(inputs, [path for path in (out, idsig) if path])


def _platforms(options: argparse.Namespace, apk: int) -> Platforms:
    low = options.min_sdk_version
    if low is None or not options.debuggable_apk_permitted:
        manifest = manifest_sdks(apk)
        if manifest.debuggable and not options.debuggable_apk_permitted:
            raise SigningError("the APK is debuggable, which is not permitted")
        low = manifest.min_sdk if low is None else low
    if low > options.max_sdk_version:
        raise SigningError(f"the SDK range {low} to {options.max_sdk_version} is empty")
    return Platforms(low, options.max_sdk_version)


def _plan(options: argparse.Namespace, keys: list["SigningKey"], platforms: Platforms) -> "Plan":
    from avf.apk.signing_plan import make_plan

    lineage = read_lineage(options.lineage) if options.lineage else ()
    return make_plan(
        keys,
        lineage,
        min_sdk=platforms.low,
        max_sdk=platforms.high,
        enabled={
            Scheme.V1: options.v1_signing_enabled,
            Scheme.V2: options.v2_signing_enabled,
            Scheme.V3: options.v3_signing_enabled,
        },
        rotation_min_sdk=options.rotation_min_sdk_version,
        targets_dev_release=options.rotation_targets_dev_release,
    )


def _write_apk(
    options: argparse.Namespace,
    plan: "Plan",
    names: Mapping[bytes, str],
    apk: int,
    out: BinaryIO,
    low: int,
    stamp: "StampSigner | None",
) -> int:
    from avf.apk.signing import sign
    from avf.apk.v1.sign import safe_name

    oldest = (plan.rotation and plan.rotation.old) or plan.key
    v1_signers = [oldest, *plan.others]
    sign(
        apk,
        out,
        plan.key,
        schemes=plan.schemes,
        algorithms=[SignatureAlgorithm[name] for name in options.algorithm or ()],
        min_sdk=low,
        others=plan.others,
        rotation=plan.rotation,
        verity=options.verity_enabled,
        align=not options.alignment_preserved,
        library_page=options.lib_page_alignment,
        v1_names=[safe_name(names[key.certificate]) for key in v1_signers],
        stamp=stamp,
    )
    return out.fileno()


def _stamp(
    options: argparse.Namespace, signers: list[SignerOptions], passwords: Passwords
) -> "StampSigner | None":
    from avf.apk.stamp_sign import StampSigner

    if not signers:
        return None
    if options.v4_signing_enabled == _ONLY:
        options.parser.error(f"{_STAMP[0]} does not go with --v4-signing-enabled only")
    (key,) = load_all(signers, passwords)
    lineage = read_lineage(options.stamp_lineage) if options.stamp_lineage else ()
    return StampSigner(key, lineage, options.stamp_timestamp_enabled, options.force_stamp_overwrite)


def _check_stamp(apk: int, plan: "Plan") -> Report:
    """What the report says of the stamp; SigningError if it is not good."""
    stamp = source_stamp(apk, with_v1=Scheme.V1 in plan.schemes)
    if stamp.status is not StampStatus.VERIFIED:
        raise SigningError(f"the source stamp would not be accepted: {stamp.reason}")
    return {"source_stamp": reports.stamp(stamp)}


def _verdicts(apk: int, platforms: Platforms) -> tuple[PlatformVerdict, ...]:
    """What the platforms say of the result; SigningError if one does not accept it."""
    try:
        return verify_range(apk, min_sdk=platforms.low, max_sdk=platforms.high)
    except ApkError as error:
        raise SigningError(f"a platform would not accept the APK: {error}") from error


def _write_idsig(
    options: argparse.Namespace,
    plan: "Plan",
    apk: int,
    output: tuple[Path, int],
    verdicts: tuple[PlatformVerdict, ...],
) -> None:
    from avf.apk.signing import make_signed_idsig

    if plan.others:
        raise SigningError("v4 has one signer")
    sdk = max(DEFAULT_SDK, verdicts[0].min_sdk)
    made = make_signed_idsig(apk, plan.key, sdk=sdk, rotation=plan.rotation)
    path, idsig = output
    with about(path):
        made.write(idsig, with_tree=not options.v4_no_merkle_tree)
    check_idsig_signers(apk, idsig, v4_platforms(verdicts), allow_v2=True)
