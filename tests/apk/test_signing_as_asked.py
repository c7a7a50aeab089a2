"""Keys in the containers that people have, chains, v1 files, alignment, and the idsig of a rotated key."""

import io
import zipfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates

from avf.apk import (
    Idsig,
    Rotation,
    SignatureAlgorithm,
    SigningError,
    SigningKey,
    entries,
    entry_offset,
    make_signed_idsig,
    read_entry,
    rotate,
    verify,
    verify_idsig,
)
from avf.apk import sign as sign_apk
from avf.apk.__main__ import main
from avf.apk.keys import _self_signed
from tests.apk.conftest import LIBRARY, TEXT, key_arguments, run_apksigner

PASSWORD = "swordfish"


@pytest.fixture
def pem(tmp_path: Path, keys: dict[str, SigningKey]) -> tuple[Path, Path]:
    """An encrypted key and its certificate."""
    private, certificate = keys["rsa-2048"].to_pem()
    encrypted = load_pem_private_key(private, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode())
    )
    paths = tmp_path / "key.pem", tmp_path / "cert.pem"
    paths[0].write_bytes(encrypted)
    paths[1].write_bytes(certificate)
    return paths


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main([str(item) for item in arguments])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("given", ["env", "file"])
def test_an_encrypted_key_and_its_password(
    pem: tuple[Path, Path],
    unsigned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: Encoding,
    given: str,
) -> None:
    private = load_pem_private_key(pem[0].read_bytes(), PASSWORD.encode())
    encryption = BestAvailableEncryption(PASSWORD.encode())
    pem[0].write_bytes(private.private_bytes(form, PrivateFormat.PKCS8, encryption))
    (tmp_path / "password").write_text(PASSWORD + "\nanother line\n")
    monkeypatch.setenv("APK_PASSWORD", PASSWORD)
    spec = {"env": "env:APK_PASSWORD", "file": f"file:{tmp_path / 'password'}"}[given]
    out = tmp_path / "out.apk"
    sign = ["sign", unsigned, "--out", out, "--key", pem[0], "--cert", pem[1]]
    assert run(capsys, *sign, "--key-pass", spec)[0] == 0
    run_apksigner("verify", "--min-sdk-version", "24", str(out))
    out.unlink()
    monkeypatch.setenv("APK_PASSWORD", "wrong")
    status, text = run(capsys, *sign, "--key-pass", "env:APK_PASSWORD")
    assert (status, out.exists()) == (1, False)
    assert text.startswith(f"{pem[0]}: cannot read the signing key")
    status, text = run(capsys, *sign)
    assert status == 1
    assert text.startswith(f"{pem[0]}: it is encrypted")
    assert PASSWORD not in text


def test_the_whole_chain_is_written(
    keys: dict[str, SigningKey], unsigned: Path, tmp_path: Path
) -> None:
    private, certificate = keys["rsa-2048"].to_pem()
    issuer = keys["ec-p384"]
    chain = certificate + issuer.to_pem()[1]
    key = SigningKey.load(private, chain)
    with unsigned.open("rb") as source, (tmp_path / "out.apk").open("w+b") as out:
        sign_apk(source, out, key, min_sdk=24)
        assert verify(out).certificates == (key.certificate, issuer.certificate)
    run_apksigner("verify", str(tmp_path / "out.apk"))
    with pytest.raises(SigningError, match="not of the private key"):
        SigningKey.load(private, issuer.to_pem()[1] + certificate)


def test_a_key_too_short_for_an_algorithm(unsigned: Path) -> None:
    private = rsa.generate_private_key(65537, 1024)
    key = SigningKey(private, _self_signed(private, "short"))
    for algorithm in SignatureAlgorithm:
        try:
            assert key.sign(algorithm, b"data")
        except SigningError as error:
            assert "does not go with this key" in str(error)
    with pytest.raises(SigningError, match="RSA_PSS_SHA512 does not go with this key"):
        key.sign(SignatureAlgorithm.RSA_PSS_SHA512, b"data")


# v1 files and alignment


@pytest.fixture
def with_v1(tmp_path: Path, keys: dict[str, SigningKey], unsigned: Path) -> Path:
    """Signed by apksigner with v1 and another key."""
    out = tmp_path / "v1.apk"
    files = key_arguments(keys["rsa-4096"], tmp_path / "other")
    options = ["--min-sdk-version", "18", "--v2-signing-enabled", "false"]
    run_apksigner(
        "sign", *files, *options, "--v3-signing-enabled", "false", "--out", str(out), str(unsigned)
    )
    return out


def test_v1_files_of_another_key_are_dropped(
    with_v1: Path, key: SigningKey, tmp_path: Path
) -> None:
    assert [name for name in names(with_v1) if name.startswith("META-INF/")]
    with with_v1.open("rb") as source, (tmp_path / "out.apk").open("w+b") as out:
        sign_apk(source, out, key, min_sdk=24)
        assert verify(out).public_key == key.public_key
        assert read_entry(out, "assets/text", limit=1 << 20) == TEXT
        assert read_entry(out, "lib/x86_64/libpayload.so", limit=1 << 20) == LIBRARY
        check_alignment(out)
    assert names(tmp_path / "out.apk") == [n for n in names(with_v1) if "META-INF" not in n]
    with zipfile.ZipFile(tmp_path / "out.apk") as archive:
        assert archive.testzip() is None
    run_apksigner("verify", "--min-sdk-version", "24", str(tmp_path / "out.apk"))


def names(path: Path) -> list[str]:
    with path.open("rb") as file:
        return [entry.name for entry in entries(file)]


def check_alignment(apk: io.BufferedRandom | io.BytesIO) -> None:
    for entry in entries(apk):
        if entry.method == 0:
            unit = 16384 if entry.name.endswith(".so") else 4
            assert entry_offset(apk, entry) % unit == 0, entry.name


@pytest.mark.parametrize("first", range(5))
def test_entries_are_aligned_on_request(key: SigningKey, first: int) -> None:
    unsigned = io.BytesIO()
    with zipfile.ZipFile(unsigned, "w") as archive:
        archive.writestr("x" * (first + 1), b"1")
        archive.writestr("META-INF/services/a", b"kept")
        archive.writestr("lib/arm64-v8a/a.so", b"elf")
        archive.writestr("assets/é.so", b"elf")
        archive.writestr("a.so", b"elf")
        archive.writestr("assets/deflated", TEXT, zipfile.ZIP_DEFLATED)
        archive.writestr("b", b"2")
    out, again = io.BytesIO(), io.BytesIO()
    sign_apk(unsigned, out, key, align=True)
    check_alignment(out)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert archive.read("META-INF/services/a") == b"kept"
    assert verify(out)
    sign_apk(out, again, key, align=True)
    assert again.getvalue()[:4096] == out.getvalue()[:4096]


@pytest.mark.parametrize("same", [True, False])
def test_an_apk_is_not_signed_over_itself(
    unsigned: Path, key: SigningKey, tmp_path: Path, same: bool
) -> None:
    path = tmp_path / "same.apk"
    path.write_bytes(unsigned.read_bytes())
    with (
        path.open("r+b") as one,
        path.open("r+b") as other,
        pytest.raises(SigningError, match="the same file"),
    ):
        sign_apk(one, one if same else other, key)
    assert path.read_bytes() == unsigned.read_bytes()


# The idsig of a rotated key


@pytest.mark.parametrize("since", [28, 33, 34, 35])
def test_the_idsig_of_a_rotated_key_is_accepted_on_every_platform(
    keys: dict[str, SigningKey], unsigned: Path, since: int
) -> None:
    old, new = keys["ec-p256"], keys["rsa-4096"]
    rotation = Rotation(old, rotate(old, new), since)
    apk = io.BytesIO()
    sign_apk(io.BytesIO(unsigned.read_bytes()), apk, new, min_sdk=24, rotation=rotation)
    made = make_signed_idsig(apk, new, rotation=rotation)
    idsig = io.BytesIO(made.header() + bytes(made.tree or b""))
    assert Idsig.parse(idsig).header() == made.header()
    for sdk in (30, 32, 33, 34, 35, 36):
        found = verify_idsig(apk, idsig, sdk=sdk, require_signature=True)
        assert found.certificate == verify(apk, sdk=sdk).certificates[0]


def test_the_command_signs_the_idsig_of_a_rotated_key(
    keys: dict[str, SigningKey],
    unsigned: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths: dict[str, list[Path]] = {}
    for kind in ("ec-p256", "rsa-2048"):
        paths[kind] = [tmp_path / f"{kind}.key", tmp_path / f"{kind}.cert"]
        for path, data in zip(paths[kind], keys[kind].to_pem(), strict=True):
            path.write_bytes(data)
    (old_key, old_cert), (new_key, new_cert) = paths["ec-p256"], paths["rsa-2048"]
    lineage, out, idsig = tmp_path / "lineage", tmp_path / "out.apk", tmp_path / "out.idsig"
    old = ["--key", old_key, "--cert", old_cert]
    new = ["--key", new_key, "--cert", new_cert]
    made = run(capsys, "rotate", "--out", lineage, "--old-signer", *old, "--new-signer", *new)
    assert made[0] == 0
    sign = ["sign", unsigned, "--out", out, "--idsig", idsig, *new, "--next-signer", *old]
    for since in ("28", "33", "35"):
        given = ["--lineage", lineage, "--rotation-min-sdk-version", since]
        assert run(capsys, *sign, *given)[0] == 0
        checks = [["--sdk", sdk] for sdk in ("32", "33", "34", "35")]
        for check in [*checks, []]:
            assert run(capsys, "verify", out, "--v4-signature-file", idsig, *check)[0] == 0


def test_a_certificate_with_a_key_of_another_kind_is_told(keys: dict[str, SigningKey]) -> None:
    private, _ = keys["ec-p256"].to_pem()
    other = x509.load_der_x509_certificate(keys["dsa-1024"].certificate)
    with pytest.raises(SigningError, match="not of the private key"):
        SigningKey.load(private, other.public_bytes(Encoding.PEM))


def test_certificates_come_as_apksigner_takes_them(
    tmp_path: Path, keys: dict[str, SigningKey]
) -> None:
    """PEM, DER one behind the other, PKCS #7 of either, whatever text stands around PEM."""
    private, pem = keys["rsa-2048"].to_pem()
    issuer = x509.load_der_x509_certificate(keys["ec-p256"].certificate)
    own = x509.load_der_x509_certificate(keys["rsa-2048"].certificate)
    both = [item.public_bytes(Encoding.DER) for item in (own, issuer)]
    forms = [
        b"".join(both),
        b"text\r\n" + pem.replace(b"\n", b"\r\n") + issuer.public_bytes(Encoding.PEM),
        serialize_certificates([own, issuer], Encoding.DER),
        serialize_certificates([own, issuer], Encoding.PEM),
    ]
    for data in forms:
        assert list(SigningKey.load(private, data).certificates) == both
    for data in (b"", both[0] + b"\x30", serialize_certificates([own], Encoding.DER)[:-1]):
        with pytest.raises(SigningError, match="cannot read the certificate"):
            SigningKey.load(private, data)
    with pytest.raises(SigningError, match="more than 64 certificates"):
        SigningKey.load(private, both[0] * 65)


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("wrong", [b"", b"salmon"])
def test_a_wrong_password_is_called_wrong(
    keys: dict[str, SigningKey], form: Encoding, wrong: bytes
) -> None:
    private, certificate = keys["ec-p256"].to_pem()
    encrypted = load_pem_private_key(private, None).private_bytes(
        form, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode())
    )
    assert SigningKey.load(encrypted, certificate, password=PASSWORD.encode())
    with pytest.raises(SigningError, match="its password is wrong"):
        SigningKey.load(encrypted, certificate, password=wrong)


def test_a_key_that_no_platform_takes_is_the_file_that_is_wrong(
    tmp_path: Path, unsigned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the APK, in which it would be found otherwise."""
    kinds = [
        (ec.generate_private_key(ec.SECP256K1()), "on a curve that is not accepted"),
        (ec.generate_private_key(ec.SECP224R1()), "on a curve that is not accepted"),
    ]
    for private, reason in kinds:
        key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate.write_bytes(_self_signed(private, "odd").public_bytes(Encoding.PEM))
        out = tmp_path / "out.apk"
        status, text = run(
            capsys, "sign", "--key", key, "--cert", certificate, "--out", out, unsigned
        )
        assert (status, out.exists()) == (1, False)
        assert text.startswith(f"{certificate}: no platform accepts the key: ")
        assert reason in text
