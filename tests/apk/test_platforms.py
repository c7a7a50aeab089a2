"""What each platform says of an APK, over ranges of SDKs, beside apksigner."""

import io
import struct
import subprocess
from pathlib import Path

import pytest

from avf.apk import (
    ApkBuilder,
    ApkError,
    EntryError,
    InputError,
    NoSigner,
    Rotation,
    Scheme,
    SchemeNotFound,
    SignatureAlgorithm,
    SignatureStripped,
    SigningError,
    SigningKey,
    manifest_min_sdk,
    rotate,
    verify,
    verify_range,
)
from avf.apk import sign as sign_apk
from avf.apk.axml import manifest
from avf.apk.axml_reader import ManifestSdks, read_manifest
from avf.apk.fields import lp32_items, u32
from avf.apk.signing_block import BlockId
from tests.apk.conftest import ApkSigner, run_apksigner
from tests.apk.forge import Anatomy, Forger

ECDSA = SignatureAlgorithm.ECDSA_SHA256
MAX = 0x7FFFFFFF


@pytest.fixture(scope="module")
def late(keys: dict[str, SigningKey], unsigned: Path) -> bytes:
    """v2 and v3 by one key, v3.1 by another from SDK 35 on."""
    old, new = keys["ec-p256"], keys["rsa-2048"]
    out = io.BytesIO()
    rotation = Rotation(old, rotate(old, new), 35)
    sign_apk(io.BytesIO(unsigned.read_bytes()), out, new, min_sdk=24, rotation=rotation)
    return out.getvalue()


def test_every_platform_of_a_range_is_told(late: bytes, keys: dict[str, SigningKey]) -> None:
    verdicts = verify_range(io.BytesIO(late))
    found = [(item.min_sdk, item.max_sdk, item.apk.scheme) for item in verdicts]
    assert found == [(24, 27, Scheme.V2), (28, 34, Scheme.V3), (35, MAX, Scheme.V3_1)]
    assert [item.apk.signers[0].public_key for item in verdicts] == [
        keys[kind].public_key for kind in ("ec-p256", "ec-p256", "rsa-2048")
    ]
    (only,) = verify_range(io.BytesIO(late), min_sdk=29, max_sdk=30)
    assert (only.min_sdk, only.max_sdk) == (29, 30)


def test_a_range_says_what_each_of_its_platforms_says(late: bytes) -> None:
    for verdict in verify_range(io.BytesIO(late)):
        for sdk in range(verdict.min_sdk, min(verdict.max_sdk, 40) + 1):
            assert verify(io.BytesIO(late), sdk=sdk, allow_v2=True) == verdict.apk


def test_the_lowest_platform_that_refuses_is_named(late: bytes) -> None:
    with pytest.raises(
        SchemeNotFound,
        match=r"^SDK 21: .*knows v1 only, and the APK is signed with v2, v3, v3\.1 only",
    ):
        verify_range(io.BytesIO(late), min_sdk=21)
    for low, high in ((30, 29), (-1, 30)):
        with pytest.raises(InputError, match="is empty"):
            verify_range(io.BytesIO(late), min_sdk=low, max_sdk=high)


def test_a_gap_between_signers_is_found(anatomy: Anatomy, key: SigningKey) -> None:
    digests = [(ECDSA, anatomy.digest(ECDSA))]
    signers = [Forger(key, digests, signed_range=pair).signer() for pair in ((28, 30), (32, MAX))]
    data = io.BytesIO(anatomy.with_pairs((BlockId.V3, lp32_items(signers))).build())
    with pytest.raises(NoSigner, match=r"^SDK 31: "):
        verify_range(data, min_sdk=28)
    assert len(verify_range(data, min_sdk=32)) == 1


@pytest.mark.parametrize("sdk", [24, 27, 28, 32])
def test_a_rule_of_a_later_release_is_not_applied(late: bytes, sdk: int) -> None:
    """Without v3.1, and below 28 without v3, those platforms see nothing missing."""
    anatomy = Anatomy.of(late)
    known = {BlockId.V2} if sdk < 28 else {BlockId.V2, BlockId.V3}
    stripped = anatomy.with_pairs(*[pair for pair in anatomy.pairs if pair[0] in known]).build()
    assert verify(io.BytesIO(stripped), sdk=sdk, allow_v2=True).signers
    with pytest.raises(SignatureStripped):
        verify(io.BytesIO(stripped), sdk=34 if sdk > 27 else 28, allow_v2=True)


def test_a_list_of_rotated_signers_is_not_empty(anatomy: Anatomy) -> None:
    data = anatomy.with_pairs(*anatomy.pairs, (BlockId.V3_1, lp32_items([]))).build()
    with pytest.raises(NoSigner, match=r"V3\.1 .* 0 signers found"):
        verify(io.BytesIO(data), sdk=33)
    assert verify(io.BytesIO(data), sdk=32).scheme is Scheme.V3


@pytest.mark.parametrize("sdk", [24, 26, 28, 31])
@pytest.mark.parametrize("options", [(), ("--v3-signing-enabled", "false")])
def test_same_verdict_as_apksigner(
    apksigner: ApkSigner, options: tuple[str, ...], sdk: int
) -> None:
    path = apksigner("ec-p256", *options)
    with path.open("rb") as file:
        verified = verify(file, sdk=sdk, allow_v2=True)
    bounds = ["--min-sdk-version", str(sdk), "--max-sdk-version", str(sdk)]
    output = run_apksigner("verify", "-v", *bounds, str(path))
    assert f"(APK Signature Scheme {verified.scheme.value}): true" in output


@pytest.mark.parametrize("low", [0, 1, 10, 18, 23])
def test_platforms_that_know_v1_only_are_not_signed_for(
    unsigned: Path, key: SigningKey, low: int
) -> None:
    out = io.BytesIO(b"kept")
    with (
        unsigned.open("rb") as source,
        pytest.raises(SigningError, match=r"before SDK 24 accept v1"),
    ):
        sign_apk(source, out, key, min_sdk=low)
    assert out.getvalue() == b"kept"


# The manifest


def made(low: int, target: int) -> bytes:
    return manifest(
        "a.b", version_code=1, version_name="1", min_sdk=low, target_sdk=target, debuggable=False
    )


@pytest.mark.parametrize(("low", "target"), [(1, 1), (24, 34), (10000, 10000)])
def test_the_manifest_reader_reads_what_the_writer_writes(low: int, target: int) -> None:
    assert read_manifest(made(low, target)) == ManifestSdks(low, target)


@pytest.mark.parametrize("low", [0, -1, -(1 << 31)])
def test_a_minimum_below_the_first_platform_is_that(low: int) -> None:
    assert read_manifest(made(low & 0xFFFFFFFF, 34)) == ManifestSdks(1, 34)


@pytest.mark.parametrize("twice", [0x0101020C, 0x01010270])
def test_the_first_of_two_attributes_counts(twice: int) -> None:
    """minSdkVersion, targetSdkVersion: one gets the other's resource ID."""
    ids = {0x0101020C, 0x01010270}
    data = made(24, 34)
    (other,) = ids - {twice}
    changed = data.replace(struct.pack("<I", other), struct.pack("<I", twice))
    first = ManifestSdks(24, None) if twice == 0x0101020C else ManifestSdks(1, 24)
    assert read_manifest(changed) == first


def test_apksigner_takes_the_same_minimum(tmp_path: Path, key: SigningKey) -> None:
    """It asks for v1 below the SDK that we read."""
    for low, code in ((23, 1), (24, 0)):
        path = tmp_path / f"{low}.apk"
        unsigned = io.BytesIO()
        ApkBuilder(min_sdk=low).write(unsigned)
        with path.open("w+b") as out:
            sign_apk(unsigned, out, key, min_sdk=24)
            assert manifest_min_sdk(out) == low
        done = subprocess.run(["apksigner", "verify", str(path)], capture_output=True, check=False)
        assert done.returncode == code


@pytest.mark.parametrize("value", ["Tiramisu", "34"])
def test_a_codename_counts_as_the_release_before(value: str) -> None:
    data = bytearray(made(24, 34))
    text = value.encode("utf-16-le")
    at = bytes(data).index(struct.pack("<HBBI", 8, 0, 0x10, 24))
    data[at : at + 8] = struct.pack("<HBBI", 8, 0, 3, 0)
    pool = data.index(struct.pack("<H", 11) + "versionCode".encode("utf-16-le"))
    data[pool : pool + 2 + len(text) + 2] = struct.pack("<H", len(value)) + text + b"\0\0"
    assert read_manifest(bytes(data)).min_sdk == {"Tiramisu": 32, "34": 34}[value]


def test_no_byte_of_a_manifest_brings_another_error() -> None:
    good = made(24, 34)
    for offset in range(len(good)):
        for value in (0, 0x7F, 0xFF):
            bad = bytearray(good)
            bad[offset] = value
            try:
                read_manifest(bytes(bad))
            except EntryError as error:
                assert str(error)
    for cut in range(len(good)):
        with pytest.raises(EntryError):
            read_manifest(good[:cut])


def test_a_manifest_is_bounded() -> None:
    chunks = struct.pack("<HHI", 0x180, 8, 8) * ((1 << 18) + 1)
    with pytest.raises(EntryError, match="more than 262144 chunks"):
        read_manifest(struct.pack("<HHI", 3, 8, 8 + len(chunks)) + chunks)


def test_an_apk_without_a_manifest_has_no_range(unsigned: Path, late: bytes) -> None:
    name = b"AndroidManifest.xml"
    data = late.replace(name, name[::-1])
    with pytest.raises(ApkError, match="not found"):
        verify_range(io.BytesIO(data))


def test_apksigner_reads_a_late_rotation_below_it(late: bytes, tmp_path: Path) -> None:
    (tmp_path / "late.apk").write_bytes(late)
    run_apksigner("verify", "--max-sdk-version", "32", str(tmp_path / "late.apk"))


def test_an_attribute_of_rotation_is_read_from_its_release_on(
    anatomy: Anatomy, key: SigningKey
) -> None:
    attribute = u32(0x559F8B02) + b"u32"
    v3 = Forger(key, [(ECDSA, anatomy.digest(ECDSA))], attributes=[attribute])
    data = io.BytesIO(anatomy.with_pairs((BlockId.V3, v3.block())).build())
    assert verify(data, sdk=32).signers
    with pytest.raises(ApkError, match="rotation min SDK attribute is not 4 bytes"):
        verify(data, sdk=33)
