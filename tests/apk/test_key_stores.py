"""Keys from the stores and with the passwords that people have, beside keytool and OpenSSL."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from avf.apk import SigningError, SigningKey
from avf.apk.__main__ import main
from avf.apk.jks import MAGICS, read_store
from avf.apk.passwords import Passwords, check_source
from tests.apk.conftest import run_apksigner

PASSWORD = "swordfish"
TYPES = ("PKCS12", "JKS", "JCEKS")


def keytool(store: Path, kind: str, alias: str, key_password: str = PASSWORD) -> None:
    command = ["keytool", "-genkeypair", "-keystore", str(store), "-storetype", kind]
    command += ["-storepass", PASSWORD, "-dname", f"CN={alias}, O=Example", "-alias", alias]
    command += ["-keyalg", "EC", "-groupname", "secp256r1"]
    if kind != "PKCS12":
        command += ["-keypass", key_password]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store of each type with two keys, of which the second has a password of its own where that can be."""
    directory = tmp_path_factory.mktemp("stores")
    made = {kind: directory / kind for kind in TYPES}
    for kind, path in made.items():
        keytool(path, kind, "release")
        keytool(path, kind, "upload", "own-password")
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main([str(item) for item in arguments])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


@pytest.mark.parametrize("kind", TYPES)
def test_each_key_of_a_store_that_keytool_made(
    stores: dict[str, Path],
    kind: str,
    unsigned: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.apk"
    sign = ["sign", "--out", out, "--ks", stores[kind], "--ks-pass", f"pass:{PASSWORD}"]
    for alias, more in (("release", []), ("UPLOAD", ["--key-pass", "pass:own-password"])):
        given = [*sign, "--ks-key-alias", alias, "--ks-type", kind, *more, unsigned]
        assert run(capsys, *given)[0] == 0
        certificates = run_apksigner("verify", "--print-certs", str(out))
        status, text = run(capsys, "verify", "--print-certs", "-v", out)
        assert status == 0
        assert f"subject: CN={alias.lower()}, O=Example" in text
        for line in certificates.splitlines():
            assert line.rpartition(": ")[2] in text


@pytest.mark.parametrize("kind", TYPES)
def test_which_key_of_a_store_is_told(
    stores: dict[str, Path], kind: str, unsigned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, out = stores[kind], unsigned.with_name("never.apk")
    sign = ["sign", unsigned, "--out", out, "--ks", store, "--ks-pass"]
    right = f"pass:{PASSWORD}"
    status, text = run(capsys, *sign, right)
    assert status == 1
    assert text.startswith(f"{store}: the key store holds several keys, ")
    assert "'release'" in text
    assert "'upload'" in text
    status, text = run(capsys, *sign, right, "--ks-key-alias", "debug")
    assert status == 1
    assert text.startswith(f"{store}: the key store holds no key 'debug', but ")
    status, text = run(capsys, *sign, "pass:wrong", "--ks-key-alias", "release")
    assert status == 1
    assert text.startswith(f"{store}: ")
    assert "password" in text
    assert not out.exists()


@pytest.mark.parametrize("kind", ["JKS", "JCEKS"])
def test_a_key_with_a_password_of_its_own(stores: dict[str, Path], kind: str) -> None:
    store = stores[kind].read_bytes()
    with pytest.raises(SigningError, match="password of the private key is wrong"):
        SigningKey.from_key_store(store, PASSWORD, alias="upload")
    with pytest.raises(SigningError, match="password of the private key is wrong"):
        SigningKey.from_key_store(store, PASSWORD, alias="upload", key_password=lambda: "no")
    asked = []
    SigningKey.from_key_store(
        store, PASSWORD, alias="upload", key_password=lambda: asked.append(1) or "own-password"
    )
    SigningKey.from_key_store(
        store, PASSWORD, alias="release", key_password=lambda: asked.append(2) or "no"
    )
    assert asked == [1]


@pytest.mark.parametrize("kind", TYPES)
def test_the_chain_of_a_store(tmp_path: Path, kind: str) -> None:
    """An issuer, whose answer to a request is imported behind the key."""
    store = tmp_path / "store"
    keytool(store, kind, "issuer")
    keytool(store, kind, "release")
    common = ["-keystore", str(store), "-storepass", PASSWORD]
    request, issued = tmp_path / "request", tmp_path / "issued"
    for arguments in (
        ["-certreq", "-alias", "release", "-file", str(request)],
        ["-gencert", "-alias", "issuer", "-infile", str(request), "-outfile", str(issued)],
        ["-importcert", "-noprompt", "-alias", "release", "-file", str(issued)],
    ):
        subprocess.run(["keytool", *arguments, *common], check=True, capture_output=True)
    issuer = SigningKey.from_key_store(store.read_bytes(), PASSWORD, alias="issuer")
    key = SigningKey.from_key_store(store.read_bytes(), PASSWORD, alias="release")
    assert key.certificates == (key.certificate, issuer.certificate)


@pytest.mark.parametrize("options", [[], ["-keypbe", "NONE", "-certpbe", "NONE"], ["-legacy"]])
def test_a_store_that_openssl_made(
    tmp_path: Path, keys: dict[str, SigningKey], options: list[str]
) -> None:
    paths = [tmp_path / "key", tmp_path / "cert", tmp_path / "store"]
    for path, data in zip(paths[:2], keys["rsa-2048"].to_pem(), strict=True):
        path.write_bytes(data)
    command = ["openssl", "pkcs12", "-export", "-inkey", str(paths[0]), "-in", str(paths[1])]
    command += ["-out", str(paths[2]), "-passout", f"pass:{PASSWORD}", *options]
    subprocess.run(command, check=True, capture_output=True)
    loaded = SigningKey.from_key_store(paths[2].read_bytes(), PASSWORD)
    assert loaded.certificate == keys["rsa-2048"].certificate


@pytest.mark.parametrize("kind", TYPES)
def test_a_damaged_store_brings_no_other_error(stores: dict[str, Path], kind: str) -> None:
    good = stores[kind].read_bytes()
    for cut in range(0, len(good), 41):
        with pytest.raises(SigningError):
            SigningKey.from_key_store(good[:cut], PASSWORD, alias="release")
    for offset in range(0, len(good), 37):
        bad = bytearray(good)
        bad[offset] ^= 0xFF
        try:
            SigningKey.from_key_store(bytes(bad), PASSWORD, alias="release")
        except SigningError as error:
            assert str(error)


def test_counts_in_a_store_are_bounded() -> None:
    entry = b"\0\0\0\1" + b"\0\1a" + bytes(8) + b"\0\0\0\0"
    for body, message in (
        (b"\0\0\0\2\xff\xff\xff\xff", "more than 4096 entries"),
        (b"\0\0\0\2\0\0\0\1" + entry + b"\xff\xff\xff\xff", "chain of more than 64"),
        (b"\0\0\0\2\0\0\0\1\0\0\0\3" + entry[4:], "neither a private key nor"),
        (b"\0\0\0\3\0\0\0\0", "has version 3"),
        (b"\0\0\0\2\0\0\0\0more", "longer than its entries"),
    ):
        with pytest.raises(SigningError, match=message):
            read_store(MAGICS[0] + body + bytes(20), PASSWORD)


# Passwords


@pytest.mark.parametrize("spec", ["env:", "file:", "secret", "", "stdin:", "ENV:X"])
def test_an_unknown_source_of_a_password_is_wrong_usage(
    spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["sign", "A", "--out", "B", "--key", "K", "--cert", "C", "--key-pass", spec])
    assert caught.value.code == 2
    assert "pass:PASSWORD, env:NAME, file:PATH or stdin" in capsys.readouterr().err
    with pytest.raises(ValueError, match="a password is given as"):
        check_source(spec)


def test_a_file_that_is_named_again_goes_on_with_its_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passwords").write_bytes("first\r\nzwölf\n\xe4\n".encode("latin-1"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo")))
    passwords, source = Passwords(), f"file:{tmp_path / 'passwords'}"
    assert [passwords.get(source) for _ in range(3)] == ["first", "zwölf", "ä"]
    assert [passwords.get("stdin") for _ in range(2)] == ["one", "two"]
    for empty in (source, "stdin"):
        with pytest.raises(SigningError, match="no further line with a password"):
            passwords.get(empty)


def encrypted(directory: Path, key: SigningKey, password: str) -> list[object]:
    """The options of a key with a password."""
    private, certificate = key.to_pem()
    encryption = BestAvailableEncryption(password.encode())
    data = load_pem_private_key(private, None).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, encryption
    )
    stem = directory / key.certificate[-4:].hex()
    stem.with_suffix(".pk8").write_bytes(data)
    stem.with_suffix(".pem").write_bytes(certificate)
    return ["--key", stem.with_suffix(".pk8"), "--cert", stem.with_suffix(".pem")]


def test_passwords_are_read_in_the_order_of_the_signers(
    keys: dict[str, SigningKey],
    stores: dict[str, Path],
    unsigned: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The password of a store comes before that of its key."""
    (tmp_path / "p").write_text(f"first\n{PASSWORD}\nown-password\nlast\n")
    source = f"file:{tmp_path / 'p'}"
    first = [*encrypted(tmp_path, keys["ec-p256"], "first"), "--key-pass", source]
    store = ["--ks", stores["JKS"], "--ks-key-alias", "upload"]
    store += ["--key-pass", source, "--ks-pass", source]
    last = [*encrypted(tmp_path, keys["rsa-2048"], "last"), "--key-pass", source]
    sign = ["sign", "--in", unsigned, "--out", tmp_path / "out.apk", "--v3-signing-enabled"]
    signers = [*first, "--next-signer", *store, "--next-signer", *last]
    assert run(capsys, *sign, "false", *signers)[0] == 0
    assert run_apksigner("verify", "-v", str(tmp_path / "out.apk")).count("signers: 3") == 1


def test_a_password_is_asked_for_at_the_terminal(
    keys: dict[str, SigningKey], unsigned: Path, tmp_path: Path
) -> None:
    options = encrypted(tmp_path, keys["ec-p256"], PASSWORD)
    sign = ["sign", unsigned, "--out", tmp_path / "out.apk", *options]
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "avf.apk", *map(str, sign)],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(theirs)
        shown = b""
        while b"Password of " not in shown:
            shown += terminal.read(1024)
        terminal.write(PASSWORD.encode() + b"\n")
        assert process.wait() == 0
    assert PASSWORD.encode() not in shown


def take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
