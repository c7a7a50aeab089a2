"""`python -m avf.apk`: its output, its JSON and its exit status."""

import hashlib
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import Idsig, Scheme, SigningKey, parse_lineage_file, verify
from avf.apk.__main__ import main
from avf.apk.fields import lp32, lp32_items, u32
from avf.apk.progress import Bar
from avf.apk.signing_block import BlockId
from tests.apk.conftest import KINDS, ApkSigner, run_apksigner, sign_with
from tests.apk.forge import Anatomy

Json = dict[str, object]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Json]]:
    """Run a command with --json: exit status and what it printed."""

    def run_command(*arguments: object) -> tuple[int, Json]:
        status = main([*map(str, arguments), "--json"])
        return status, json.loads(capsys.readouterr().out)

    return run_command


Run = Callable[..., tuple[int, Json]]


def test_verify(signed: Path, key: SigningKey, run: Run) -> None:
    status, report = run("verify", signed, "--sdk", 34)
    with signed.open("rb") as file:
        digest = verify(file).digest.hex()
    assert status == 0
    assert report == {
        "verified": True,
        "scheme": "v3",
        "sdk": 34,
        "size": signed.stat().st_size,
        "signers": [
            {
                "public_key_sha256": hashlib.sha256(key.public_key).hexdigest(),
                "certificate_sha256": hashlib.sha256(key.certificate).hexdigest(),
                "algorithm": "ECDSA_SHA256",
                "algorithm_id": 0x0201,
                "digest_algorithm": "CHUNKED_SHA256",
                "digest_hex": digest,
                "min_sdk": 24,
                "max_sdk": 0x7FFFFFFF,
                "lineage": [],
            }
        ],
        "source_stamp": {
            "status": "missing",
            "reason": None,
            "version": None,
            "certificate_sha256": None,
            "timestamp": None,
            "lineage": [],
        },
        "warnings": [],
    }


def test_verify_for_people(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(signed)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("verified: true\nscheme: v3\n")
    assert "\n  - public key sha256: " in out
    assert "\n    lineage: none\n" in out


@pytest.mark.parametrize("kind", KINDS)
def test_certificate_and_key_are_those_that_apksigner_prints(
    apksigner: ApkSigner, run: Run, kind: str
) -> None:
    path = apksigner(kind)
    printed = run_apksigner("verify", "-v", "--print-certs", str(path))
    _, report = run("verify", path)
    signer = report["signers"][0]  # type: ignore[index]
    assert f"certificate SHA-256 digest: {signer['certificate_sha256']}" in printed
    assert f"public key SHA-256 digest: {signer['public_key_sha256']}" in printed


def test_v2_alone_is_verified_but_told_apart(tmp_path: Path, key: SigningKey, run: Run) -> None:
    path = sign_with(tmp_path / "v2.apk", key, Scheme.V2)
    status, report = run("verify", path)
    assert (status, report["verified"], report["scheme"]) == (0, True, "v2")
    status, report = run("verify", path, "--require-v3")
    assert (status, report["verified"]) == (1, False)
    assert report["error"]["code"] == "scheme-not-found"  # type: ignore[index]


def test_verify_with_an_idsig(apksigner: ApkSigner, signed: Path, tmp_path: Path, run: Run) -> None:
    path = apksigner("ec-p256", "--v4-signing-enabled", "true")
    status, report = run("verify", path, "--idsig", f"{path}.idsig", "--require-v4")
    assert status == 0
    assert report["idsig"]["signed"] is True  # type: ignore[index]
    assert set(report["idsig"]) == {  # type: ignore[call-overload]
        *("root_hash_hex", "apk_digest_hex", "salt_hex", "signed", "certificate_sha256")
    }
    mine = tmp_path / "idsig"
    run("idsig", path, mine)
    status, report = run("verify", path, "--idsig", mine)
    assert (status, report["idsig"]["signed"]) == (0, False)  # type: ignore[index]
    status, report = run("verify", path, "--idsig", mine, "--require-v4")
    assert (status, report["error"]["code"]) == (1, "idsig")  # type: ignore[index]
    status, report = run("verify", signed, "--idsig", mine)
    assert (status, report["error"]["code"]) == (1, "idsig-mismatch")  # type: ignore[index]


def test_a_bad_apk_exits_with_1_and_says_why(
    signed: Path, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.apk"
    bad.write_bytes(signed.read_bytes().replace(b"PK\3\4", b"PK\3\5", 1))
    assert main(["verify", str(bad), "--sdk", "34"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"{bad}: Digest mismatch: computed=")
    status, report = run("verify", bad, "--sdk", 34)
    assert (status, report["verified"]) == (1, False)
    error = report["error"]
    assert isinstance(error, dict)
    assert set(error) == {"code", "message", "file", "offset"}
    assert (error["code"], error["offset"]) == ("digest-mismatch", None)


def test_errors_tell_the_place(
    signed: Path, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    data = signed.read_bytes()
    bad = tmp_path / "bad.apk"
    bad.write_bytes(data.replace(b"APK Sig Block 42", b"APK Sig Block 43"))
    _, report = run("verify", bad)
    where = data.index(b"APK Sig Block 42")
    assert report["error"] == {
        "code": "scheme-not-found",
        "message": "The APK is not signed: No APK Signing Block before ZIP Central Directory",
        "file": str(bad),
        "offset": where,
    }
    assert main(["verify", str(bad)]) == 1
    assert capsys.readouterr().err.endswith(f"(at byte {where})\n")


@pytest.mark.parametrize("command", ["verify", "info", "idsig"])
def test_a_file_that_is_not_there(tmp_path: Path, run: Run, command: str) -> None:
    more = [tmp_path / "out"] if command == "idsig" else []
    status, report = run(command, tmp_path / "nothing", *more)
    assert status == 1
    assert report["error"] == {
        "code": "io",
        "message": "No such file or directory",
        "file": str(tmp_path / "nothing"),
        "offset": None,
    }


def test_a_directory_is_no_apk(tmp_path: Path, run: Run) -> None:
    status, report = run("verify", tmp_path)
    assert (status, report["error"]["code"]) == (1, "io")  # type: ignore[index]


def test_info(signed: Path, unsigned: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    _, report = run("info", signed)
    assert [value["id"] for value in report["signing_block"]["values"]] == [  # type: ignore[index]
        *("0x7109871a", "0xf05368c0", "0x42726577")
    ]
    assert [claim["scheme"] for claim in report["claims"]] == ["v2", "v3"]  # type: ignore[attr-defined]
    assert [entry["name"] for entry in report["entries"]] == [  # type: ignore[attr-defined]
        "AndroidManifest.xml",
        "assets/text",
        "lib/x86_64/libpayload.so",
    ]
    assert main(["info", str(signed)]) == 0
    assert "  - name: assets/text\n    size: 21500\n" in capsys.readouterr().out
    status, report = run("info", unsigned)
    assert (status, report["signing_block"], report["claims"]) == (0, None, [])


def test_info_of_signers_that_are_broken(anatomy: Anatomy, tmp_path: Path, run: Run) -> None:
    broken = lp32_items([lp32(b"?") + u32(24) + u32(30) + lp32(b"") + lp32(b"key")])
    path = tmp_path / "broken.apk"
    path.write_bytes(anatomy.with_pairs((BlockId.V3, broken)).build())
    status, report = run("info", path)
    assert (status, report["claims"]) == (
        0,
        [
            {
                "scheme": "v3",
                "public_key_sha256": hashlib.sha256(b"key").hexdigest(),
                "algorithms": [],
                "min_sdk": 24,
                "max_sdk": 30,
                "attributes": [],
            }
        ],
    )


def test_idsig(signed: Path, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "idsig"
    for written in (True, False):
        status, report = run("idsig", signed, path)
        assert (status, report["written"]) == (0, written)
    with path.open("rb") as file:
        assert report["root_hash_hex"] == Idsig.parse(file).root_hash.hex()


def test_a_failed_idsig_leaves_nothing_new(unsigned: Path, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "idsig"
    assert run("idsig", unsigned, path)[0] == 1
    assert not path.exists()
    path.write_bytes(b"Oops")
    assert run("idsig", unsigned, path)[0] == 1
    assert path.read_bytes() == b"Oops"


@pytest.fixture
def files(keys: dict[str, SigningKey], tmp_path: Path) -> Callable[[str], list[str]]:
    """A key's two files."""

    def write(kind: str) -> list[str]:
        paths = [tmp_path / f"{kind}.key", tmp_path / f"{kind}.cert"]
        for path, pem in zip(paths, keys[kind].to_pem(), strict=True):
            path.write_bytes(pem)
        return [str(path) for path in paths]

    return write


Files = Callable[[str], list[str]]


def test_sign(
    unsigned: Path, keys: dict[str, SigningKey], files: Files, tmp_path: Path, run: Run
) -> None:
    key, certificate = files("rsa-2048")
    out, idsig = tmp_path / "out.apk", tmp_path / "out.apk.idsig"
    options = ["--key", key, "--cert", certificate, "--min-sdk-version", "24"]
    names = ["RSA_PKCS1_V1_5_SHA256", "VERITY_RSA_PKCS1_V1_5_SHA256"]
    for name in names:
        options += ["--algorithm", name]
    status, report = run("sign", unsigned, "--out", out, "--idsig", idsig, *options)
    assert (status, report["signed"], report["verified"]) == (0, str(out), True)
    assert report["signers"][0]["algorithm"] == names[1]  # type: ignore[index]
    assert run("verify", out, "--idsig", idsig, "--require-v4")[0] == 0
    output = run_apksigner("verify", "-v", "--v4-signature-file", str(idsig), str(out))
    assert "(APK Signature Scheme v4): true" in output


def test_rotate_and_sign(
    unsigned: Path, keys: dict[str, SigningKey], files: Files, tmp_path: Path, run: Run
) -> None:
    lineage, out = tmp_path / "lineage", tmp_path / "out.apk"
    old, new = files("ec-p256"), files("rsa-2048")
    old_key = ["--key", old[0], "--cert", old[1]]
    new_key = ["--key", new[0], "--cert", new[1]]
    status, report = run(
        "rotate", "--out", lineage, "--old-signer", *old_key, "--new-signer", *new_key
    )
    assert status == 0
    assert len(report["lineage"]) == 2  # type: ignore[arg-type]
    assert len(parse_lineage_file(lineage.read_bytes())) == 2
    options = [*old_key, "--next-signer", *new_key, "--lineage", str(lineage), "--out", str(out)]
    status, report = run("sign", unsigned, *options)
    assert (status, report["scheme"]) == (0, "v3.1")
    assert run("verify", out, "--sdk", "32")[1]["scheme"] == "v3"
    lineage.write_bytes(b"?" * 20)
    status, report = run("sign", unsigned, *options)
    assert (status, report["error"]["code"]) == (1, "lineage")  # type: ignore[index]


def test_a_failure_leaves_no_output(unsigned: Path, files: Files, tmp_path: Path, run: Run) -> None:
    key, certificate = files("rsa-2048")
    broken, out = tmp_path / "broken.apk", tmp_path / "out.apk"
    broken.write_bytes(unsigned.read_bytes()[:-1])
    options = ["--out", out, "--key", key, "--cert", certificate]
    status, report = run("sign", broken, *options)
    assert (status, report["error"]["code"]) == (1, "zip")  # type: ignore[index]
    assert not out.exists()
    before = unsigned.read_bytes()
    options[1] = unsigned
    status, report = run("sign", unsigned, *options)
    assert report["error"]["code"] == "output"  # type: ignore[index]
    assert "the same file" in report["error"]["message"]  # type: ignore[index]
    assert unsigned.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        [],
        ["verify"],
        ["verify", "APK", "--sdk", "many"],
        ["verify", "APK", "--sdk", "-1"],
        ["sign", "APK", "--out", "FILE"],
        ["sign", "APK", "--out", "OUT", "--key", "K", "--cert", "C", "--algorithm", "MD5"],
        ["sign", "APK", "--out", "OUT", "--key", "K"],
        ["sign", "APK", "--out", "OUT", "--key", "K", "--cert", "C", "--next-signer"],
        ["sign", "APK", "--out", "OUT", "--key", "K", "--cert", "C", "--ks", "S"],
        ["sign", "APK", "--key", "K", "--cert", "C"],
        ["sign", "APK", "--in", "APK", "--in-place", "--key", "K", "--cert", "C"],
        ["rotate", "--out", "L", "--old-signer", "--key", "K", "--cert", "C"],
        ["lineage", "--in", "L", "--signer", "--key", "K", "--cert", "C"],
        ["verify", "APK", "--sdk", "34", "--min-sdk-version", "24"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m avf.apk" in capsys.readouterr().err


def test_the_module_runs(signed: Path) -> None:
    command = [sys.executable, "-m", "avf.apk", "verify", str(signed), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["verified"] is True
    assert done.stderr == ""


def test_a_bar_shows_on_a_terminal_once_work_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("avf.apk.progress.time.monotonic", lambda: now[0])
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as reader, os.fdopen(theirs, "w") as terminal:
        with Bar(terminal, "hashing", 1000) as bar:
            bar(100)
            now[0] = 0.6
            bar(500)
            now[0] = 0.65
            bar(600)
            now[0] = 0.8
            bar(1200)
        terminal.write("end\n")
        terminal.flush()
        shown = reader.readline().decode()
    assert "hashing [####################                    ]  50%" in shown
    assert "60%" not in shown
    assert "100%" in shown
    assert shown.endswith("\rend\r\n")


def test_a_bar_shows_nothing_elsewhere() -> None:
    out = io.StringIO()
    with Bar(out, "hashing", 10) as bar:
        bar(5)
    assert out.getvalue() == ""
