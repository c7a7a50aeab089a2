"""Make APKs that carry a payload: a manifest, assets and native libraries, stored and aligned as Android wants."""

import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from avf.apk.axml import manifest
from avf.apk.errors import SigningError
from avf.apk.keys import SigningKey
from avf.apk.rewrite import is_library
from avf.apk.signing import DEFAULT_MIN_SDK, sign
from avf.apk.verify import DEFAULT_SDK, Scheme

MANIFEST = "AndroidManifest.xml"
_DATE = (1981, 1, 1, 1, 1, 2)
_PAGE = 16384
_WORD = 4
_LARGE = 64 << 10
"""From this size on, a guest can read a file in place if it begins on a page boundary."""
_ALIGNMENT_EXTRA_ID = 0xD935
_EXTRA_HEADER = 6
_LOCAL_HEADER = 30


class ApkBuilder:
    """Collects entries; `write` makes an unsigned APK of them, `build` a signed one. The same input gives the same
    bytes (but for the randomness of an EC signature)."""

    def __init__(
        self,
        package: str = "com.example.payload",
        *,
        version_code: int = 1,
        version_name: str = "1",
        min_sdk: int = DEFAULT_MIN_SDK,
        target_sdk: int = DEFAULT_SDK,
        debuggable: bool = False,
    ) -> None:
        self._entries: dict[str, tuple[bytes | Path, int, bool]] = {}
        self._min_sdk = min_sdk
        self.add(
            MANIFEST,
            manifest(
                package,
                version_code=version_code,
                version_name=version_name,
                min_sdk=min_sdk,
                target_sdk=target_sdk,
                debuggable=debuggable,
            ),
        )

    def add(
        self, name: str, data: bytes | Path, *, mode: int = 0o644, compress: bool = False
    ) -> "ApkBuilder":
        """Add an entry from bytes or a file that is read when the APK is written."""
        parts = name.split("/")
        if name in self._entries or not all(parts) or {".", ".."} & set(parts):
            raise SigningError(f"bad or repeated entry name {name!r}")
        self._entries[name] = (data, mode, compress)
        return self

    def add_native_library(
        self, name: str, data: bytes | Path, *, abi: str = "x86_64"
    ) -> "ApkBuilder":
        """Add `lib/ABI/NAME`, executable, uncompressed and page-aligned."""
        return self.add(f"lib/{abi}/{name}", data, mode=0o755)

    def write(self, out: BinaryIO) -> None:
        """Write the unsigned APK to a seekable file."""
        with zipfile.ZipFile(out, "w", allowZip64=False) as archive:
            for name, (data, mode, compress) in self._entries.items():
                _write_entry(archive, name, data, mode, compress)

    def build(
        self,
        out: BinaryIO,
        key: SigningKey,
        *,
        schemes: Collection[Scheme] = (Scheme.V2, Scheme.V3),
    ) -> None:
        """Write the signed APK to `out`, an empty file open for reading and writing."""
        with tempfile.TemporaryFile() as unsigned:
            self.write(unsigned)
            sign(unsigned, out, key, schemes=schemes, min_sdk=self._min_sdk)


def _write_entry(
    archive: zipfile.ZipFile, name: str, data: bytes | Path, mode: int, compress: bool
) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | mode) << 16
    info.file_size = data.stat().st_size if isinstance(data, Path) else len(data)
    if compress:
        info.compress_type = zipfile.ZIP_DEFLATED
    else:
        info.extra = _alignment_extra(archive, name, info.file_size)
    with archive.open(info, "w") as target:
        if isinstance(data, Path):
            with data.open("rb") as file:
                shutil.copyfileobj(file, target, 1 << 20)
        else:
            target.write(data)


def _alignment_extra(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """The extra field that puts the data of the next entry on a boundary: of a page if it is a library or large."""
    alignment = _PAGE if is_library(name) or size >= _LARGE else _WORD
    start = archive.start_dir + _LOCAL_HEADER + len(name.encode()) + _EXTRA_HEADER
    padding = -start % alignment
    return struct.pack("<HHH", _ALIGNMENT_EXTRA_ID, 2 + padding, alignment) + bytes(padding)
