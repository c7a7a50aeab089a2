"""Lineages in files of their own and in signed APKs, and what is changed in them."""

from pathlib import Path

from avf.apk.errors import LineageError, SchemeNotFound, ZipFormatError
from avf.apk.fields import u32
from avf.apk.files import about, opened, read_small
from avf.apk.lineage import (
    FILE_MAGIC,
    LineageNode,
    parse_lineage,
    parse_lineage_file,
    verify_lineage,
)
from avf.apk.signers import ATTRIBUTE_PROOF_OF_ROTATION, parse_signed_data
from avf.apk.signing_block import BlockId, SignedApk, find_signing_block
from avf.apk.source import open_source
from avf.apk.verify import signers_of


def read_lineage(path: Path) -> tuple[LineageNode, ...]:
    """The lineage in a file, or the longest one of the v3 and v3.1 signers of an APK.

    Each link in it is verified; the APK is not. LineageError if there is none.
    """
    with about(path):
        if is_lineage_file(path):
            found = parse_lineage_file(read_small(path))
        else:
            with opened(path) as fd:
                found = lineage_of(_signed_apk(fd))
        verify_lineage(found)
        return found


def _signed_apk(fd: int) -> SignedApk:
    try:
        return find_signing_block(open_source(fd))
    except ZipFormatError:
        raise LineageError("the file is neither a lineage nor an APK") from None


def is_lineage_file(path: Path) -> bool:
    """Does the file begin like a lineage, and not like an APK?"""
    with opened(path) as fd:
        source = open_source(fd)
        return source.read_at(0, min(4, source.size)) == u32(FILE_MAGIC)


def lineage_of(apk: SignedApk) -> tuple[LineageNode, ...]:
    """The longest lineage in an APK, nothing verified; LineageError if there is none."""
    found: list[tuple[LineageNode, ...]] = []
    for block_id in (BlockId.V3_1, BlockId.V3):
        try:
            signers = signers_of(apk, block_id)
        except SchemeNotFound:
            continue
        for signer in signers:
            data = parse_signed_data(signer, has_sdk_range=True)
            found += [
                parse_lineage(item.value, item.offset)
                for item in data.find(ATTRIBUTE_PROOF_OF_ROTATION)
            ]
    if not found:
        raise LineageError("the APK has no lineage: its key was never rotated")
    return max(found, key=len)
