"""Which package an APK is, and which version, read from its binary manifest."""

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.apk import (
    ApkBuilder,
    EntryError,
    Package,
    Rotation,
    SigningKey,
    read_package,
    rotate,
    verify,
)
from avf.apk import sign as sign_apk
from avf.apk.axml import _document, _Element
from avf.apk.axml_reader import read_package as read_manifest_package
from avf.apk.fields import u32


def built(name: str = "com.example.app", version: int = 1) -> io.BytesIO:
    out = io.BytesIO()
    ApkBuilder(name, version_code=version).write(out)
    return out


def zipped(manifest: bytes | None) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("assets/file", b"content")
        if manifest is not None:
            archive.writestr("AndroidManifest.xml", manifest)
    return out


@pytest.mark.parametrize(
    "version", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, (7 << 32) | 5, (1 << 64) - 1]
)
@pytest.mark.parametrize("name", ["com.example.app", "a", "Has_Under.score9", "x" * 255])
def test_what_the_builder_wrote(name: str, version: int) -> None:
    assert read_package(built(name, version)) == Package(name, version)


def test_no_manifest() -> None:
    assert read_package(zipped(None)) is None


def document(
    attributes: dict[str, int | bool | str], plain: dict[str, str], name: str = "manifest"
) -> bytes:
    return _document(_Element(name, attributes, plain, []))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"", "is cut short"),
        (b"<?xml version='1.0'?><manifest package='com.example'/>", "is no binary XML"),
        (document({}, {}), "names its package 0 times"),
        (document({}, {"package": ""}), "has a bad package name ''"),
        (document({}, {"package": "x" * 256}), "has a bad package name"),
        (document({}, {"package": "x" * 2000}), "has a bad package name ''"),
        (document({}, {"package": "com.exa\nmple"}), "has a bad package name"),
        (document({}, {"package": "com.exämple"}), "has a bad package name"),
        (document({}, {"package": "..", "other": "x"}), "has a bad package name"),
        (document({"versionCode": "5"}, {"package": "a.b"}), "has a versionCode that is no number"),
        (
            document({"versionCodeMajor": True}, {"package": "a.b"}),
            "versionCodeMajor that is no number",
        ),
        (document({}, {"package": "a.b"}, "application"), "has no element 'manifest' at its root"),
    ],
)
def test_manifests_that_do_not_tell(manifest: bytes, message: str) -> None:
    with pytest.raises(EntryError, match=f"ZIP entry 'AndroidManifest.xml' .*{message}"):
        read_package(zipped(manifest))


def test_attributes_that_come_twice() -> None:
    once = document({"versionCode": 5, "minSdkVersion": 6}, {"package": "a.b"})
    assert read_manifest_package(once) == ("a.b", 5)
    version = struct.pack(
        "<IIHBBI", 1, 0xFFFFFFFF, 8, 0, 0x10, 6
    )  # minSdkVersion, by its index among the names
    twice = once.replace(version[8:], struct.pack("<HBBI", 8, 0, 0x10, 6))
    name_index = once.index(
        struct.pack("<I", 2) + u32(0xFFFFFFFF) + struct.pack("<HBBI", 8, 0, 0x10, 6)
    )
    twice = once[:name_index] + u32(0) + once[name_index + 4 :]
    with pytest.raises(EntryError, match="gives versionCode 2 times"):
        read_manifest_package(twice)


def test_only_the_attribute_without_a_namespace_is_the_package() -> None:
    manifest = document(
        {"versionName": "android.package"}, {"package": "a.b", "packageName": "c.d"}
    )
    assert read_manifest_package(manifest) == ("a.b", 0)


@given(st.data())
def test_damage_never_crashes(data: st.DataObject) -> None:
    manifest = bytearray(document({"versionCode": 5}, {"package": "a.b"}))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(manifest) - 1))
        manifest[at] = data.draw(st.integers(0, 255))
    try:
        read_manifest_package(bytes(manifest[: data.draw(st.integers(0, len(manifest)))]))
    except EntryError:
        pass


def test_keys_of_a_lineage_are_the_signers_own(keys: dict[str, SigningKey], unsigned: Path) -> None:
    old, new = keys["rsa-2048"], keys["ec-p256"]
    out = io.BytesIO()
    rotation = Rotation(old, rotate(old, new))
    sign_apk(io.BytesIO(unsigned.read_bytes()), out, new, rotation=rotation)
    signer = verify(out).signers[0]
    assert [node.public_key for node in signer.lineage] == [old.public_key, new.public_key]
    assert signer.lineage[-1].public_key == signer.public_key
