"""The command `align`: do stored entries begin where Android wants them, and if not, move them."""

import argparse
from pathlib import Path

from avf.apk.errors import EntryError, SigningError
from avf.apk.files import about, opened
from avf.apk.output import Outputs, check_collisions
from avf.apk.reports import Report
from avf.apk.rewrite import (
    LIBRARY_PAGE,
    alignment_of,
    eocd_for,
    has_v1_signature,
    misaligned,
    rewrite,
)
from avf.apk.signing_block import MAGIC
from avf.apk.source import Source, open_source
from avf.apk.zip import ZipSections, find_sections
from avf.overwriting import Kind

PAGES = (4096, 16384)


def add_page(command: argparse.ArgumentParser) -> None:
    """The option for the pages of native libraries."""
    command.add_argument(
        "--lib-page-alignment",
        type=int,
        choices=PAGES,
        default=LIBRARY_PAGE,
        metavar="N",
        help="boundary of native libraries (%(default)s)",
    )


def add_align(command: argparse.ArgumentParser) -> None:
    """The options of `align`."""
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="change nothing, fail if it would")
    what.add_argument("--out", type=Path, metavar="FILE")
    what.add_argument("--in-place", action="store_true", help="replace APK by the aligned one")
    add_page(command)
    command.set_defaults(run=run_align)


def run_align(options: argparse.Namespace) -> Report:
    """Check or write. A signed APK can be checked only."""
    page: int = options.lib_page_alignment
    out: Path | None = None if options.check else options.out or options.apk
    if out and not options.in_place:
        check_collisions([options.apk], [out])
    with opened(options.apk) as apk:
        source = open_source(apk)
        sections = find_sections(source)
        found: list[Report] = [
            {"name": entry.name, "offset": offset, "alignment": alignment_of(entry, page)}
            for entry, offset in misaligned(source, sections, page)
        ]
        if out:
            _check_unsigned(source, sections)
            _write(source, sections, page, out)
        elif found:
            raise _misaligned(found)
    return {"written": None if out is None else str(out), "misaligned": found}


def _misaligned(found: list[Report]) -> EntryError:
    first, others = found[0], len(found) - 1
    more = f", nor do {others} others" if others else ""
    return EntryError(
        f"ZIP entry {first['name']!r} does not begin on its boundary{more}",
        offset=int(str(first["offset"])),
    )


def _check_unsigned(source: Source, sections: ZipSections) -> None:
    start = sections.cd_offset - len(MAGIC)
    has_block = start >= 0 and source.read_at(start, len(MAGIC)) == MAGIC
    if has_block or has_v1_signature(source, sections):
        raise SigningError("the APK is signed: sign it anew, which aligns it")


def _write(source: Source, sections: ZipSections, page: int, path: Path) -> None:
    with Outputs() as outputs:
        with about(path):
            out = outputs.open(path, Kind.APK)
        directory, count = rewrite(source, sections, sections.cd_offset, out, page)
        eocd = source.read_at(sections.eocd_offset, sections.eocd_size)
        out.write(directory + eocd_for(eocd, directory, count, out.tell()))
        outputs.commit()
