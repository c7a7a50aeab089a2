"""`python -m avf.apk`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avf.apk import Idsig, SigningKey, verify
from avf.apk.__main__ import main


def test_verify(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(signed)]) == 0
    assert "scheme: v3\n" in capsys.readouterr().out
    assert main(["verify", str(signed), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    with signed.open("rb") as file:
        assert report["content digest"] == verify(file).digest.hex()
    assert report["verified"] is True


def test_a_bad_apk_exits_with_1_and_says_why(
    signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.apk"
    bad.write_bytes(signed.read_bytes().replace(b"Jack", b"Jill").replace(b"PK\3\4", b"PK\3\5", 1))
    assert main(["verify", str(bad)]) == 1
    assert f"{bad}: Digest mismatch" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "nothing")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_info(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(signed), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["values"] == ["0x7109871a", "0xf05368c0", "0x42726577"]
    assert [entry["name"] for entry in report["entries"]] == [
        "AndroidManifest.xml",
        "assets/text",
        "lib/x86_64/libpayload.so",
    ]
    assert main(["info", str(signed)]) == 0
    assert "  assets/text 21500 100644\n" in capsys.readouterr().out


def test_idsig(signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "idsig"
    for written in (True, False):
        assert main(["idsig", str(signed), str(path), "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["written"] is written
    with path.open("rb") as file:
        assert report["root hash"] == Idsig.parse(file).root_hash.hex()


def test_sign(
    unsigned: Path, key: SigningKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("key.pem", "cert.pem", "out.apk", "out.apk.idsig")]
    for path, pem in zip(files, key.to_pem(), strict=False):
        path.write_bytes(pem)
    private, certificate, out, idsig = map(str, files)
    options = ["--key", private, "--cert", certificate]
    assert main(["sign", str(unsigned), "--out", out, "--idsig", idsig, *options]) == 0
    with files[2].open("rb") as file, files[3].open("rb") as idsig_file:
        assert verify(file).public_key == key.public_key
        assert Idsig.parse(idsig_file).public_key == key.public_key
    before = files[2].read_bytes()
    assert main(["sign", out, "--out", out, *options]) == 1
    assert "in place" in capsys.readouterr().err
    assert files[2].read_bytes() == before


def test_wrong_usage_exits_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "avf.apk", "frobnicate"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode == 2
    assert "invalid choice: 'frobnicate'" in done.stderr
