"""Which entries of a ZIP are parts of a v1 signature, and what they hold."""

from collections.abc import Iterator
from typing import NamedTuple

from avf.apk.errors import EntryError, NoSigner, SchemeNotFound
from avf.apk.source import Source
from avf.apk.v1.contents import read_contents
from avf.apk.v1.manifest import MANIFEST
from avf.apk.zip import Entry, ZipSections, iter_entries

MAX_V1_SIGNERS = 10
MAX_FILE = 8 << 20
"""Bytes in the manifest or a signature file."""
MAX_BLOCK = 1 << 20
MAX_META_INF = 200
META_INF = "META-INF/"
_BLOCK_SUFFIXES = (".RSA", ".DSA", ".EC")


class Pair(NamedTuple):
    """A signature block and the signature file that it signs."""

    block: Entry
    file: Entry

    @property
    def name(self) -> str:
        """Of the block, without META-INF/."""
        return self.block.name.removeprefix(META_INF)


class Archive:
    """The files of the v1 signature in a ZIP. SchemeNotFound if there are none, NoSigner if there are too many."""

    def __init__(self, source: Source, sections: ZipSections) -> None:
        self.source = source
        self.sections = sections
        self.warnings: list[str] = []
        manifest: Entry | None = None
        files: dict[str, Entry] = {}
        blocks: list[Entry] = []
        self.meta_inf: list[str] = []
        """The names of the first 200 entries in META-INF."""
        for name, entry in self.entries():
            if not name.startswith(META_INF):
                continue
            if len(self.meta_inf) < MAX_META_INF:
                self.meta_inf.append(entry.name)
            if name == MANIFEST:
                manifest = manifest or entry
            elif name.endswith(".SF"):
                files[name] = entry
            elif name.endswith(_BLOCK_SUFFIXES):
                blocks.append(entry)
        if manifest is None or not blocks:
            what = "a manifest without signature" if manifest else "no v1 (JAR) signature"
            raise SchemeNotFound(f"The APK has {what}", offset=sections.cd_offset)
        self._manifest = manifest
        self.pairs = self._pairs(blocks, files)

    def _pairs(self, blocks: list[Entry], files: dict[str, Entry]) -> list[Pair]:
        pairs = []
        for block in blocks:
            name = block.name.rpartition(".")[0] + ".SF"
            if name in files:
                pairs.append(Pair(block, files[name]))
            else:
                self.warnings.append(f"{block.name} is ignored: there is no {name}")
        if not pairs:
            raise SchemeNotFound(f"The APK has no v1 signature that counts: {self.warnings[0]}")
        if len(pairs) > MAX_V1_SIGNERS:
            raise NoSigner(
                f"v1 supports 1 to {MAX_V1_SIGNERS} signers: {len(pairs)} signers found."
            )
        return pairs

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """The entries but for directories, each with its name as Android compares it with the manifest."""
        for entry in iter_entries(self.source, self.sections):
            name = entry.raw_name.decode("utf-8", "replace")
            if not name.endswith("/"):
                yield name, entry

    def manifest(self) -> bytes:
        return self._read(self._manifest, MAX_FILE)

    def block(self, pair: Pair) -> bytes:
        return self._read(pair.block, MAX_BLOCK)

    def signature_file(self, pair: Pair) -> bytes:
        return self._read(pair.file, MAX_FILE)

    def _read(self, entry: Entry, limit: int) -> bytes:
        return read_contents(self.source, entry, self.sections.cd_offset, limit)


def duplicate(entry: Entry) -> EntryError:
    """The error to raise for an entry whose name is another one's too."""
    return EntryError(f"ZIP entry {entry.name!r} occurs twice", offset=entry.header_offset)
