"""What we build and sign, apksigner verifies."""

import io
import os
import re
import stat
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from avf.apk import (
    ApkBuilder,
    Scheme,
    SignatureAlgorithm,
    SigningError,
    SigningKey,
    entries,
    entry_offset,
    verify,
)
from avf.apk import sign as sign_apk
from tests.apk.conftest import KINDS, LIBRARY, TEXT, run_apksigner, sign_with


@pytest.mark.parametrize("kind", KINDS)
def test_apksigner_verifies_v2_and_v3(
    tmp_path: Path, keys: dict[str, SigningKey], kind: str
) -> None:
    path = sign_with(tmp_path / "ours.apk", keys[kind], Scheme.V2, Scheme.V3)
    output = run_apksigner("verify", "-v", str(path))
    assert "(APK Signature Scheme v2): true" in output
    assert "(APK Signature Scheme v3): true" in output


SEVERAL = [
    SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256,
    SignatureAlgorithm.RSA_PKCS1_V1_5_SHA512,
    SignatureAlgorithm.VERITY_RSA_PKCS1_V1_5_SHA256,
]
PSS = [SignatureAlgorithm.RSA_PSS_SHA256, SignatureAlgorithm.RSA_PSS_SHA512]
"""Not for apksigner: Debian's Java does not know these names."""


def test_apksigner_verifies_several_algorithms_and_chunks(
    tmp_path: Path, keys: dict[str, SigningKey]
) -> None:
    """2.5 MiB make three chunks and two levels of the verity digest's tree."""
    unsigned = io.BytesIO()
    ApkBuilder(min_sdk=24).add("assets/big", os.urandom(5 << 19)).write(unsigned)
    path = tmp_path / "ours.apk"
    with path.open("w+b") as out:
        sign_apk(unsigned, out, keys["rsa-2048"], algorithms=SEVERAL, min_sdk=24)
        assert verify(out).algorithm is SignatureAlgorithm.RSA_PKCS1_V1_5_SHA512
    output = run_apksigner("verify", "-v", str(path))
    assert "(APK Signature Scheme v3): true" in output


@pytest.mark.parametrize("algorithm", SEVERAL + PSS)
def test_each_algorithm_alone_verifies(
    tmp_path: Path, keys: dict[str, SigningKey], unsigned: Path, algorithm: SignatureAlgorithm
) -> None:
    with unsigned.open("rb") as source, (tmp_path / "ours.apk").open("w+b") as out:
        sign_apk(source, out, keys["rsa-2048"], algorithms=[algorithm])
        assert verify(out).algorithm is algorithm


def test_apksigner_reads_the_manifest(tmp_path: Path, key: SigningKey) -> None:
    """Its minSdkVersion makes apksigner ask for v1, which we do not write, below 24."""
    path = tmp_path / "old.apk"
    with path.open("w+b") as out:
        unsigned = io.BytesIO()
        ApkBuilder(min_sdk=23).write(unsigned)
        sign_apk(unsigned, out, key, schemes=[Scheme.V2])
    with pytest.raises(AssertionError, match=re.escape("META-INF/MANIFEST.MF")):
        run_apksigner("verify", "-v", str(path))


def test_signing_again_replaces_the_signatures(
    signed: Path, keys: dict[str, SigningKey], tmp_path: Path
) -> None:
    with signed.open("rb") as source, (tmp_path / "again.apk").open("w+b") as out:
        sign_apk(source.fileno(), out, keys["rsa-2048"])
        verified = verify(out.fileno())
    assert verified.public_key == keys["rsa-2048"].public_key
    assert verified.size == signed.stat().st_size


def test_everything_is_a_zip_that_the_standard_library_reads(signed: Path) -> None:
    with zipfile.ZipFile(signed) as archive:
        assert archive.testzip() is None
        assert archive.read("assets/text") == TEXT
        assert archive.getinfo("assets/text").compress_type == zipfile.ZIP_DEFLATED
        info = archive.getinfo("lib/x86_64/libpayload.so")
        assert archive.read(info) == LIBRARY
        assert stat.S_IMODE(info.external_attr >> 16) == 0o755


@pytest.mark.parametrize("shift", range(6))
def test_stored_entries_are_aligned(tmp_path: Path, shift: int) -> None:
    builder = ApkBuilder().add("assets/n" + "n" * shift, b"x" * shift)
    builder.add_native_library("libß.so", tmp_file(tmp_path / "lib", LIBRARY))
    builder.add("assets/after", b"y").add("assets/large", bytes(64 << 10))
    out = io.BytesIO()
    builder.write(out)
    starts = {entry.name: entry_offset(out, entry) for entry in entries(out)}
    assert all(start % 4 == 0 for start in starts.values())
    assert starts["lib/x86_64/libß.so"] % 16384 == 0
    assert starts["assets/large"] % 4096 == 0


def tmp_file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_the_same_input_gives_the_same_bytes(keys: dict[str, SigningKey]) -> None:
    outs = [io.BytesIO(), io.BytesIO()]
    for out in outs:
        ApkBuilder().add("a", b"1", compress=True).build(out, keys["rsa-2048"])
    assert outs[0].getvalue() == outs[1].getvalue()


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/./b", "AndroidManifest.xml"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(SigningError, match="entry name"):
        ApkBuilder().add(name, b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "no end of central directory"), (b"prefix", "offset should be 0")],
)
def test_what_is_no_apk_is_not_signed(
    unsigned: Path, key: SigningKey, data: bytes, message: str
) -> None:
    bad = data + unsigned.read_bytes() if data else b""
    out = io.BytesIO(b"kept")
    with pytest.raises(SigningError, match=message):
        sign_apk(io.BytesIO(bad), out, key)
    assert out.getvalue() == b"kept"


def test_pem_round_trip_and_mismatch(keys: dict[str, SigningKey]) -> None:
    private, certificate = keys["ec-p256"].to_pem()
    loaded = SigningKey.from_pem(private, certificate)
    assert loaded.public_key == keys["ec-p256"].public_key
    with pytest.raises(SigningError, match="not of the private key"):
        SigningKey.from_pem(private, keys["rsa-2048"].to_pem()[1])
    with pytest.raises(SigningError, match="cannot read the signing key"):
        SigningKey.from_pem(b"junk", certificate)


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("rsa-2048", SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256),
        ("rsa-4096", SignatureAlgorithm.RSA_PKCS1_V1_5_SHA512),
        ("ec-p256", SignatureAlgorithm.ECDSA_SHA256),
        ("ec-p384", SignatureAlgorithm.ECDSA_SHA512),
    ],
)
def test_large_keys_go_with_sha512(
    keys: dict[str, SigningKey], kind: str, algorithm: SignatureAlgorithm
) -> None:
    assert keys[kind].algorithm is algorithm


def test_a_key_that_apks_cannot_be_signed_with(key: SigningKey) -> None:
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(SigningError, match="neither RSA nor EC"):
        SigningKey.from_pem(pem, key.to_pem()[1])


def test_wrong_use(unsigned: Path, key: SigningKey) -> None:
    with pytest.raises(SigningError, match="unknown kind of key 'dsa'"):
        SigningKey.generate("dsa")
    with pytest.raises(SigningError, match="RSA_PSS_SHA256 does not go with this key"):
        sign_apk(
            io.BytesIO(unsigned.read_bytes()),
            io.BytesIO(),
            key,
            algorithms=[SignatureAlgorithm.RSA_PSS_SHA256],
        )
    with pytest.raises(SigningError, match="ECDSA_SHA256 does not go with this key"):
        SigningKey.generate("rsa-2048").sign(SignatureAlgorithm.ECDSA_SHA256, b"")
    for schemes in ([Scheme.V3_1], []):
        with pytest.raises(SigningError, match="v2 and v3"):
            sign_apk(io.BytesIO(), io.BytesIO(), key, schemes=schemes)


def test_apksigner_verifies_several_v2_signers_of_ours(
    tmp_path: Path, keys: dict[str, SigningKey], unsigned: Path
) -> None:
    path = tmp_path / "several.apk"
    others = [keys["rsa-2048"], keys["dsa-2048"]]
    with unsigned.open("rb") as source, path.open("w+b") as out:
        sign_apk(source, out, keys["ec-p384"], schemes=[Scheme.V2], others=others)
        assert len(verify(out, allow_v2=True).signers) == 3
    assert "Number of signers: 3" in run_apksigner("verify", "-v", str(path))


def test_several_signers_need_v2_alone(keys: dict[str, SigningKey]) -> None:
    for schemes, count in (((Scheme.V2, Scheme.V3), 1), ((Scheme.V2,), 10)):
        others = [keys["rsa-2048"]] * count
        with pytest.raises(SigningError, match="only v1 and v2 have several signers, at most 10"):
            sign_apk(io.BytesIO(), io.BytesIO(), keys["ec-p256"], schemes=schemes, others=others)


def test_keys_are_read_from_pem_and_der(keys: dict[str, SigningKey]) -> None:
    for key in keys.values():
        pem, certificate_pem = key.to_pem()
        der = load_pem_private_key(pem, None).private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        )
        for private, certificate in ((pem, certificate_pem), (der, key.certificate)):
            assert SigningKey.load(private, certificate).public_key == key.public_key
