"""The commands `sign` and `rotate`: options, keys and outputs. Needs `cryptography` once they run."""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from avf.apk import passwords, reports
from avf.apk.algorithms import SignatureAlgorithm
from avf.apk.files import about, opened, read_small
from avf.apk.output import Outputs, check_collisions
from avf.apk.reports import Report
from avf.apk.verify import DEFAULT_SDK, Scheme, verify

if TYPE_CHECKING:
    from avf.apk.keys import SigningKey
    from avf.apk.signing import Rotation

Password = Callable[[], bytes]


def add_sign(command: argparse.ArgumentParser, sdk: Callable[[str], int]) -> None:
    """The options of `sign`."""
    out = command.add_mutually_exclusive_group(required=True)
    out.add_argument("--out", type=Path, metavar="FILE")
    out.add_argument("--in-place", action="store_true", help="replace APK by the signed one")
    _add_key_files(command, "", required=False)
    store = command.add_argument_group("for a key in a PKCS #12 key store")
    store.add_argument("--ks", type=Path, metavar="FILE", help="instead of --key and --cert")
    store.add_argument("--ks-pass", type=_password, metavar="PASSWORD")
    store.add_argument("--ks-key-alias", metavar="NAME", help="the name that the key must have")
    command.add_argument("--idsig", type=Path, metavar="FILE", help="write a signed idsig too")
    command.add_argument("--min-sdk", type=sdk, metavar="N", help="lowest SDK for v3, 24 or more")
    command.add_argument("--align", action="store_true", help="move stored entries to boundaries")
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
    _add_key_files(rotation, "old-", required=False)
    rotation.add_argument(
        "--lineage", type=Path, metavar="FILE", help="from the first key to --key"
    )
    rotation.add_argument(
        "--rotation-min-sdk", type=sdk, default=33, metavar="N", help="first with --key (33)"
    )
    command.set_defaults(run=run_sign, parser=command)


def add_rotate(command: argparse.ArgumentParser) -> None:
    """The options of `rotate`."""
    command.add_argument("apk", type=Path, metavar="LINEAGE", help="file to extend or to make")
    _add_key_files(command, "old-", required=True)
    _add_key_files(command, "new-", required=True)
    command.set_defaults(run=run_rotate)


def _add_key_files(command: argparse._ActionsContainer, prefix: str, *, required: bool) -> None:
    for name, text in (("key", "private key"), ("cert", "certificate or chain")):
        command.add_argument(
            f"--{prefix}{name}",
            type=Path,
            required=required,
            metavar="FILE",
            help=f"{text}, PEM or DER",
        )
    command.add_argument(
        f"--{prefix}key-pass", type=_password, metavar="PASSWORD", help="env:NAME or file:PATH"
    )


def _password(text: str) -> Password:
    try:
        return passwords.password_source(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run_sign(options: argparse.Namespace) -> Report:
    """Sign, verify the result, and only then give the outputs their names."""
    from avf.apk.signing import DEFAULT_MIN_SDK, make_signed_idsig, sign

    _check_options(options)
    out: Path = options.apk if options.in_place else options.out
    _check_paths(options, out)
    key = _signing_key(options)
    rotation = _rotation(options)
    min_sdk = DEFAULT_MIN_SDK if options.min_sdk is None else options.min_sdk
    sdk = max(DEFAULT_SDK, min_sdk)
    with ExitStack() as stack:
        apk = stack.enter_context(opened(options.apk))
        outputs = stack.enter_context(Outputs())
        signed = outputs.open(out)
        sign(
            apk,
            signed,
            key,
            schemes=[Scheme(name) for name in options.scheme or ("v2", "v3")],
            algorithms=[SignatureAlgorithm[name] for name in options.algorithm or ()],
            min_sdk=min_sdk,
            rotation=rotation,
            align=options.align,
        )
        verified = verify(signed.fileno(), sdk=sdk, allow_v2=True)
        if options.idsig:
            idsig = make_signed_idsig(signed.fileno(), key, sdk=sdk, rotation=rotation)
            with about(options.idsig):
                idsig.write(outputs.open(options.idsig).fileno())
        outputs.commit()
    return {"signed": str(out), **reports.verified_apk(verified, sdk)}


def _check_options(options: argparse.Namespace) -> None:
    rotated = [options.old_key, options.old_cert, options.lineage]
    if any(rotated) and not all(rotated):
        options.parser.error("--old-key, --old-cert and --lineage go together")
    files = [options.key, options.cert]
    if (options.ks and any(files)) or (not options.ks and not all(files)):
        options.parser.error("give --key and --cert, or --ks")


def _check_paths(options: argparse.Namespace, out: Path) -> None:
    others = [options.key, options.cert, options.ks]
    others += [options.old_key, options.old_cert, options.lineage]
    inputs = [path for path in others if path]
    if not options.in_place:
        inputs.append(options.apk)
    outputs = [path for path in (out, options.idsig) if path]
    check_collisions(inputs, outputs)


def _signing_key(options: argparse.Namespace) -> "SigningKey":
    from avf.apk.keys import SigningKey

    if not options.ks:
        return _load(options.key, options.cert, options.key_pass)
    store = read_small(options.ks)
    get = options.ks_pass or (lambda: passwords.ask(str(options.ks)))
    with about(options.ks):
        return SigningKey.from_pkcs12(store, get(), alias=options.ks_key_alias)


def _rotation(options: argparse.Namespace) -> "Rotation | None":
    from avf.apk.lineage import parse_lineage_file
    from avf.apk.signing import Rotation

    if not options.lineage:
        return None
    old = _load(options.old_key, options.old_cert, options.old_key_pass)
    with about(options.lineage):
        lineage = parse_lineage_file(read_small(options.lineage))
    return Rotation(old, lineage, options.rotation_min_sdk)


def _load(key: Path, certificate: Path, password: Password | None) -> "SigningKey":
    """A key from its files; the file that is wrong is the one named."""
    from avf.apk.keys import SigningKey, load_certificates, load_private_key

    with about(key):
        private = load_private_key(read_small(key), password or (lambda: passwords.ask(str(key))))
    with about(certificate):
        own, *chain = load_certificates(read_small(certificate))
        return SigningKey(private, own, chain)


def run_rotate(options: argparse.Namespace) -> Report:
    """Make a lineage longer by one certificate, or begin one with two."""
    from avf.apk.lineage import encode_lineage_file, parse_lineage_file
    from avf.apk.signing import rotate

    keys = [options.old_key, options.old_cert, options.new_key, options.new_cert]
    check_collisions(keys, [options.apk])
    old = _load(options.old_key, options.old_cert, options.old_key_pass)
    new = _load(options.new_key, options.new_cert, options.new_key_pass)
    with about(options.apk), Outputs() as outputs:
        exists = options.apk.exists()
        known = parse_lineage_file(read_small(options.apk)) if exists else ()
        lineage = rotate(old, new, known)
        outputs.open(options.apk).write(encode_lineage_file(lineage))
        outputs.commit()
    return {"lineage": reports.lineage(lineage)}
