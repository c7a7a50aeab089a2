"""Where platforms are more lenient, or stricter, than AVF: ZIP fields, the manifest, signatures of equal strength."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import (
    ApkError,
    EntryError,
    Scheme,
    SignatureAlgorithm,
    SignatureStripped,
    SigningBlockError,
    SigningKey,
    ZipFormatError,
    entries,
    verify,
    verify_range,
    verify_v1,
)
from avf.apk import sign as sign_apk
from avf.apk.fields import u32
from avf.apk.sdk_range import verify_platform
from avf.apk.signing_block import BlockId
from tests.apk.conftest import run_apksigner
from tests.apk.forge import Anatomy, Forger
from tests.apk.jar import Jar

ECDSA = SignatureAlgorithm.ECDSA_SHA256
SF = "META-INF/CERT.SF"
Damage = Callable[[bytearray, int], None]


def disks(data: bytearray, eocd: int) -> None:
    struct.pack_into("<3H", data, eocd + 4, 7, 8, 9)


def gap(data: bytearray, eocd: int) -> None:
    data[eocd:eocd] = b"between"


@pytest.fixture
def jar(key: SigningKey) -> Jar:
    return Jar(key)


def damaged(apk: io.BytesIO, damage: Damage) -> io.BytesIO:
    data = bytearray(apk.getvalue())
    damage(data, data.rindex(b"PK\5\6"))
    return io.BytesIO(data)


@pytest.mark.parametrize("damage", [disks, gap])
def test_v1_counts_whatever_disks_and_gaps_there_are(
    jar: Jar, damage: Damage, tmp_path: Path
) -> None:
    apk = damaged(jar.build(), damage)
    path = tmp_path / "odd.apk"
    path.write_bytes(apk.getvalue())
    run_apksigner("verify", "--min-sdk-version", "18", str(path))
    assert [item.apk.scheme for item in verify_range(apk, min_sdk=18)] == [Scheme.V1]
    assert verify_platform(apk, 28).scheme is Scheme.V1
    assert verify_v1(apk, min_sdk=18).signers
    with pytest.raises(ZipFormatError):
        verify(apk)
    with pytest.raises(ZipFormatError):
        entries(apk)


def test_no_signing_block_is_found_in_front_of_a_gap(signed: Path) -> None:
    apk = damaged(io.BytesIO(signed.read_bytes()), gap)
    with pytest.raises(ZipFormatError, match="EOCD should follow CD"):
        verify_range(apk)


def at_entry(apk: io.BytesIO, name: str, *, directory: bool) -> int:
    """Where the header of an entry begins."""
    with zipfile.ZipFile(apk) as archive:
        local = archive.getinfo(name).header_offset
    data = apk.getvalue()
    return data.rindex(name.encode()) - 46 if directory else local


NAME = "AndroidManifest.xml"


def test_the_manifest_is_read_as_platforms_do(jar: Jar, tmp_path: Path) -> None:
    """Whatever method is not 0 is DEFLATE, the one in the local header does not count, and no CRC-32 does."""
    apk = jar.build()
    data = bytearray(apk.getvalue())
    local, header = (at_entry(apk, NAME, directory=directory) for directory in (False, True))
    struct.pack_into("<H", data, header + 10, 21)
    for at in (local + 14, header + 16):
        data[at] ^= 1
    path = tmp_path / "odd.apk"
    path.write_bytes(data)
    run_apksigner("verify", str(path))
    assert verify_range(io.BytesIO(data))[0].min_sdk == 18


def test_signing_takes_an_entry_with_another_method_in_its_local_header(
    unsigned: Path, key: SigningKey, tmp_path: Path
) -> None:
    apk = io.BytesIO(unsigned.read_bytes())
    data, path = bytearray(apk.getvalue()), tmp_path / "signed.apk"
    struct.pack_into("<H", data, at_entry(apk, "assets/text", directory=False) + 8, 0)
    with path.open("w+b") as out:
        sign_apk(io.BytesIO(data), out, key)
        assert verify_range(out)
        assert [item.name for item in entries(out)] == [item.name for item in entries(apk)]
    assert zipfile.ZipFile(path).testzip() is None
    run_apksigner("verify", str(path))


def test_what_has_no_manifest_is_no_package(key: SigningKey) -> None:
    """From SDK 26 on, where it says what else the signature has to be."""
    apk = io.BytesIO()
    with zipfile.ZipFile(apk, "w") as archive:
        archive.writestr("a", "1")
    out = io.BytesIO()
    sign_apk(apk, out, key, min_sdk=24)
    assert verify(out)
    assert verify_range(out, min_sdk=24, max_sdk=25)
    with pytest.raises(EntryError, match=r"^SDK 26: ZIP entry 'AndroidManifest\.xml' not found"):
        verify_range(out, min_sdk=24)
    with pytest.raises(EntryError, match="not found"):
        verify_platform(out, 34)


def test_of_equally_strong_signatures_platforms_check_the_first(
    anatomy: Anatomy, key: SigningKey
) -> None:
    """AVF checks the last one."""
    digest = anatomy.digest(ECDSA)
    rsa = SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256
    for order, for_platform, for_avf in (((ECDSA, rsa), True, False), ((rsa, ECDSA), False, True)):
        v3 = Forger(key, [(kind, digest) for kind in order], signatures=None)
        good = key.sign(ECDSA, signed_data_of(v3))
        signatures = [(kind, good if kind is ECDSA else b"bad") for kind in order]
        both = Forger(key, v3.digests, signatures=signatures)
        apk = io.BytesIO(anatomy.with_pairs((BlockId.V3, both.block())).build())
        assert accepts(lambda apk=apk: verify_platform(apk, 30)) == for_platform
        assert accepts(lambda apk=apk: verify(apk, sdk=30)) == for_avf


def signed_data_of(forger: Forger) -> bytes:
    from avf.apk.signers import parse_signers

    (signer,) = parse_signers(
        Forger(forger.key, forger.digests, signatures=[]).block(), has_sdk_range=True
    )
    return signer.signed_data


def accepts(check: Callable[[], object]) -> bool:
    try:
        check()
    except ApkError:
        return False
    return True


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (u32(3), SignatureStripped),
        (u32(3) + b"more", SignatureStripped),
        (u32(2), None),
        (u32(1), None),
        (u32(4), None),
        (b"\3\0\0", SigningBlockError),
    ],
)
def test_v2_promises_v3_by_its_number_alone(
    anatomy: Anatomy, key: SigningKey, value: bytes, error: type[ApkError] | None
) -> None:
    digests = [(ECDSA, anatomy.digest(ECDSA))]
    v2 = Forger(key, digests, attributes=[u32(0xBEEFF00D) + value], has_range=False)
    apk = io.BytesIO(anatomy.with_pairs((BlockId.V2, v2.block())).build())
    assert verify(apk, sdk=27, allow_v2=True)
    if error is None:
        assert verify_range(apk, min_sdk=24)
    else:
        with pytest.raises(error, match=r"^SDK 28: "):
            verify_range(apk, min_sdk=24)


@pytest.mark.parametrize(
    ("number", "counts"),
    [
        ("+2", True),
        ("02", True),
        ("\t2\x1f", True),
        ("0000000000002", True),
        ("0_2", False),
        ("\u00a02", False),
        ("2.", False),
        ("4294967298", False),
        ("9" * 5000, False),
    ],
)
def test_schemes_are_numbers_as_java_reads_them(
    jar: Jar, number: str, counts: bool, tmp_path: Path
) -> None:
    apk = jar.build({SF: jar.signature_file(main=f"X-Android-APK-Signed: {number}\r\n")})
    path = tmp_path / "v1.apk"
    path.write_bytes(apk.getvalue())
    if counts:
        with pytest.raises(AssertionError, match="using APK Signature Scheme v2"):
            run_apksigner("verify", str(path))
        with pytest.raises(SignatureStripped):
            verify_range(apk)
    else:
        run_apksigner("verify", str(path))
        assert verify_range(apk)
