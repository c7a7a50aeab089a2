"""The commands `rotate` and `lineage`. They need `cryptography` once they change something."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from avf.apk import reports
from avf.apk.errors import LineageError
from avf.apk.files import about
from avf.apk.lineage import LineageNode, encode_lineage_file
from avf.apk.lineage_files import is_lineage_file, read_lineage
from avf.apk.output import Outputs, check_collisions
from avf.apk.reports import Report
from avf.apk.signer_options import SignerOptions, add_signers, check_signers, load_all
from avf.overwriting import Kind

_OLD = ("--old-signer", "the options that follow are of the key that hands on")
_NEW = ("--new-signer", "the options that follow are of the key that takes over")
_SIGNER = ("--signer", "the options that follow are of a certificate whose capabilities change")


def add_rotate(command: argparse.ArgumentParser) -> None:
    """The options of `rotate`."""
    _add_files(command, required=True)
    add_signers(command, [_OLD, _NEW], capabilities=True)
    command.set_defaults(run=run_rotate, parser=command)


def add_lineage(command: argparse.ArgumentParser) -> None:
    """The options of `lineage`."""
    _add_files(command, required=False)
    add_signers(command, [_SIGNER], capabilities=True)
    command.set_defaults(run=run_lineage, parser=command)


def _add_files(command: argparse.ArgumentParser, *, required: bool) -> None:
    add = command.add_argument
    text = "lineage, or an APK with one"
    add("--in", dest="apk", type=Path, required=not required, metavar="FILE", help=text)
    add("--out", type=Path, required=required, metavar="FILE", help="where the lineage goes")
    add("--print-certs", action="store_true", help="show every certificate")


def run_rotate(options: argparse.Namespace) -> Report:
    """Make a lineage longer by one certificate, or begin one with two."""
    from avf.apk.signing import DEFAULT_CAPABILITIES, rotate

    signers = {signer.role: signer for signer in check_signers(options)}
    if set(signers) != {_OLD[0], _NEW[0]} or len(options.signers) != 2:
        options.parser.error("give --old-signer and --new-signer, each with the options of its key")
    old, new = signers[_OLD[0]], signers[_NEW[0]]
    _check_paths(options, [old, new])
    old_key, new_key = load_all([old, new])
    known = read_lineage(options.apk) if options.apk else ()
    with about(options.apk or options.out):
        before = known[-1].capabilities if known else DEFAULT_CAPABILITIES
        lineage = rotate(
            old_key,
            new_key,
            known,
            capabilities=new.capabilities(DEFAULT_CAPABILITIES),
            old_capabilities=old.capabilities(before),
        )
    return _written(options, lineage)


def run_lineage(options: argparse.Namespace) -> Report:
    """Show a lineage, and write it with other capabilities if asked."""
    signers = check_signers(options) if options.signers else []
    if any(signer.role != _SIGNER[0] for signer in signers):
        options.parser.error("give --signer before the options of a key")
    if options.out:
        _check_paths(options, signers)
    elif signers:
        options.parser.error("give --out FILE for the changed lineage")
    lineage = read_lineage(options.apk)
    for signer, key in zip(signers, load_all(signers), strict=True):
        with about(options.apk):
            lineage = _changed(lineage, key.certificate, signer)
    return _written(options, lineage)


def _changed(
    lineage: Sequence[LineageNode], certificate: bytes, signer: SignerOptions
) -> tuple[LineageNode, ...]:
    """The lineage with the capabilities of one certificate as asked."""
    if certificate not in [node.certificate for node in lineage]:
        raise LineageError("the lineage does not hold the signer's certificate")
    return tuple(
        [
            node._replace(capabilities=signer.capabilities(node.capabilities))
            if node.certificate == certificate
            else node
            for node in lineage
        ]
    )


def _check_paths(options: argparse.Namespace, signers: Sequence[SignerOptions]) -> None:
    """A lineage may be written over itself, and over nothing else that is read."""
    inputs = [path for signer in signers for path in signer.paths()]
    if options.apk and not is_lineage_file(options.apk):
        inputs.append(options.apk)
    check_collisions(inputs, [options.out])


def _written(options: argparse.Namespace, lineage: Sequence[LineageNode]) -> Report:
    if options.out:
        with Outputs() as outputs:
            outputs.open(options.out, Kind.LINEAGE).write(encode_lineage_file(lineage))
            outputs.commit()
    out = None if options.out is None else str(options.out)
    shown = reports.lineage(
        lineage,
        certificates=options.print_certs,
        keys=options.print_certs and options.verbose,
    )
    return {"written": out, "lineage": shown}
