"""Which package an APK is, and which version of it, as its manifest says."""

from typing import BinaryIO

from avf.apk.axml_reader import MAX_MANIFEST
from avf.apk.axml_reader import read_package as read_manifest_package
from avf.apk.errors import EntryError
from avf.apk.source import open_source
from avf.apk.zip import find_sections, iter_entries, read_entry
from avf.named import NamedTuple

MANIFEST = "AndroidManifest.xml"


class Package(NamedTuple):
    """A package's name, and its version: versionCodeMajor in the upper 32 bits, versionCode in the lower ones."""

    name: str
    version: int


def read_package(apk: int | BinaryIO, *, size: int | None = None) -> Package | None:
    """None if the APK has no AndroidManifest.xml. EntryError if it has one that does not tell.

    Nothing is verified here.
    """
    source = open_source(apk, size)
    if all(entry.name != MANIFEST for entry in iter_entries(source, find_sections(source))):
        return None
    data = read_entry(apk, MANIFEST, limit=MAX_MANIFEST, size=size)
    try:
        return Package(*read_manifest_package(data))
    except EntryError as error:
        raise EntryError(f"ZIP entry {MANIFEST!r} {error}") from None
