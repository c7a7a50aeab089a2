"""`sign --stamp-signer`: apksigner and `verify` accept the stamps that it makes."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import SigningKey, StampStatus, rotate, source_stamp
from avf.apk.__main__ import main
from avf.apk.lineage import encode_lineage_file
from avf.apk.signing_block import STAMP_ENTRY
from avf.apk.zip import entries
from tests.apk.conftest import builder, key_arguments, run_apksigner

Options = Callable[[str], list[str]]
Stamp = dict[str, object]


@pytest.fixture
def options(keys: dict[str, SigningKey], tmp_path: Path) -> Options:
    """The options of the key of each kind."""
    return lambda kind: key_arguments(keys[kind], tmp_path / kind)


@pytest.fixture
def unsigned_apk(tmp_path: Path) -> Path:
    path = tmp_path / "unsigned.apk"
    with path.open("wb") as out:
        builder(min_sdk=18).add("assets/a.txt", b"a" * 1000, compress=True).write(out)
    return path


@pytest.fixture
def sign(
    unsigned_apk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Stamp]:
    """sign(*options, apk=) -> the report of `sign --out signed.apk`, which must not fail."""

    def run(*arguments: str, apk: Path = unsigned_apk) -> Stamp:
        status = main(
            ["sign", "--out", str(tmp_path / "signed.apk"), "--json", *arguments, str(apk)]
        )
        captured = capsys.readouterr()
        assert status == 0, captured.err
        report: Stamp = json.loads(captured.out)
        return report

    return run


def by_apksigner(path: Path, *arguments: str) -> str:
    return run_apksigner("verify", "-v", *arguments, str(path))


NO_TIME = ["--stamp-timestamp-enabled", "false"]
"""Debian's apksigner does not know the time, and does not accept what it does not know."""
SCHEMES = {"v1": "100", "v2": "010", "v3": "001", "v1+v2": "110", "v2+v3": "011", "all": "111"}


@pytest.mark.parametrize("enabled", SCHEMES.values(), ids=SCHEMES.keys())
def test_stamps_beside_every_scheme(
    sign: Callable[..., Stamp], options: Options, tmp_path: Path, enabled: str
) -> None:
    lowest = {"1": "18", "0": "24" if enabled[1] == "1" else "28"}[enabled[0]]
    platforms = ["--min-sdk-version", lowest]
    if enabled == "100":
        platforms += ["--max-sdk-version", "23"]
    schemes = [
        f"--v{n}-signing-enabled={str(on == '1').lower()}" for n, on in enumerate(enabled, 1)
    ]
    stamp_options = [*NO_TIME, "--stamp-signer", *options("rsa-4096")]
    report = sign(*platforms, *schemes, *options("rsa-2048"), *stamp_options)
    stamp = report["source_stamp"]
    assert isinstance(stamp, dict)
    assert (stamp["status"], stamp["version"]) == ("verified", 2)
    path = tmp_path / "signed.apk"
    assert "Verified for SourceStamp: true" in by_apksigner(path, *platforms)
    assert main(["verify", *platforms, "--verify-source-stamp", str(path)]) == 0


@pytest.mark.parametrize("kind", ["ec-p256", "ec-p384", "dsa-2048"])
def test_keys_that_apksigner_makes_no_stamps_with(
    sign: Callable[..., Stamp], options: Options, tmp_path: Path, kind: str
) -> None:
    """It accepts their stamps."""
    sign(*options("rsa-2048"), *NO_TIME, "--stamp-signer", *options(kind))
    assert "Verified for SourceStamp: true" in by_apksigner(tmp_path / "signed.apk")


def test_a_stamp_beside_a_rotated_key(
    sign: Callable[..., Stamp], options: Options, keys: dict[str, SigningKey], tmp_path: Path
) -> None:
    lineage = tmp_path / "lineage"
    lineage.write_bytes(encode_lineage_file(rotate(keys["rsa-2048"], keys["ec-p256"])))
    rotated = [
        "--lineage",
        str(lineage),
        *options("rsa-2048"),
        "--next-signer",
        *options("ec-p256"),
    ]
    sign(*rotated, *NO_TIME, "--stamp-signer", *options("rsa-4096"))
    assert "Verified for SourceStamp: true" in by_apksigner(tmp_path / "signed.apk")


def test_the_lineage_of_the_stamp(
    sign: Callable[..., Stamp], options: Options, keys: dict[str, SigningKey], tmp_path: Path
) -> None:
    """The certificates behind that of the stamp are left out."""
    lineage = tmp_path / "lineage"
    first = rotate(keys["rsa-2048"], keys["rsa-4096"])
    lineage.write_bytes(encode_lineage_file(rotate(keys["rsa-4096"], keys["ec-p256"], first)))
    stamp = [*NO_TIME, "--stamp-lineage", str(lineage), "--stamp-signer", *options("rsa-4096")]
    sign(*options("ec-p384"), *stamp)
    path = tmp_path / "signed.apk"
    with path.open("rb") as apk:
        found = source_stamp(apk, with_v1=False)
    assert found.status is StampStatus.VERIFIED
    certificates = [keys[kind].certificate for kind in ("rsa-2048", "rsa-4096")]
    assert [node.certificate for node in found.lineage] == certificates
    assert "Verified for SourceStamp: true" in by_apksigner(path)


def test_the_time_of_the_stamp(
    sign: Callable[..., Stamp], options: Options, tmp_path: Path
) -> None:
    stamp = [*options("ec-p256"), "--stamp-signer", *options("rsa-2048")]
    before = int(time.time())
    sign(*stamp)
    with (tmp_path / "signed.apk").open("rb") as apk:
        made = source_stamp(apk, with_v1=False).timestamp
    assert made is not None
    assert before <= made <= time.time()
    sign(*stamp, "--stamp-timestamp-enabled", "false")
    with (tmp_path / "signed.apk").open("rb") as apk:
        found = source_stamp(apk, with_v1=False)
    assert (found.status, found.timestamp) == (StampStatus.VERIFIED, None)


def test_signing_anew_drops_the_stamp(
    sign: Callable[..., Stamp], options: Options, tmp_path: Path
) -> None:
    """As apksigner does: nothing of it is left. A stamp by the same key may be made again."""
    path, stamped = tmp_path / "signed.apk", tmp_path / "stamped.apk"
    stamp = [*NO_TIME, "--stamp-signer", *options("rsa-2048")]
    sign(*options("ec-p256"), *stamp)
    path.rename(stamped)
    assert "source_stamp" not in sign(*options("ec-p384"), apk=stamped)
    with path.open("rb") as apk:
        assert STAMP_ENTRY not in [entry.name for entry in entries(apk)]
        assert source_stamp(apk, with_v1=False).status is StampStatus.MISSING
    sign(*options("ec-p384"), "--min-sdk-version", "18", *stamp, apk=stamped)
    assert "Verified for SourceStamp: true" in by_apksigner(path)
    with path.open("rb") as apk:
        assert [entry.name for entry in entries(apk)].count(STAMP_ENTRY) == 1


def test_the_stamp_of_another_signer_is_replaced_on_request_only(
    sign: Callable[..., Stamp],
    options: Options,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, stamped = tmp_path / "signed.apk", tmp_path / "stamped.apk"
    sign(*options("ec-p256"), "--stamp-signer", *options("rsa-2048"))
    path.rename(stamped)
    other = [*options("ec-p256"), *NO_TIME, "--stamp-signer", *options("rsa-4096")]
    assert main(["sign", *other, "--out", str(path), str(stamped)]) == 1
    assert "stamp-cert-sha256 for another certificate" in capsys.readouterr().err
    assert not path.exists()
    sign(*other, "--force-stamp-overwrite", apk=stamped)
    assert "Verified for SourceStamp: true" in by_apksigner(path)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--stamp-signer", "MAIN"], "give a signer"),
        (["MAIN", "--stamp-signer"], "give --ks, or --key and --cert after --stamp-signer"),
        (["MAIN", "--stamp-signer", "MAIN", "--stamp-signer", "MAIN"], "--stamp-signer once"),
        (["--stamp-signer", "MAIN", "MAIN"], "given twice for one signer"),
    ],
)
def test_wrong_usage(
    options: Options,
    unsigned_apk: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    words = [w for item in arguments for w in (options("ec-p256") if item == "MAIN" else [item])]
    with pytest.raises(SystemExit) as error:
        main(["sign", "--out", str(tmp_path / "out.apk"), *words, str(unsigned_apk)])
    assert error.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_lineage_without_the_key_of_the_stamp(
    options: Options,
    keys: dict[str, SigningKey],
    unsigned_apk: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lineage = tmp_path / "lineage"
    lineage.write_bytes(encode_lineage_file(rotate(keys["rsa-2048"], keys["ec-p256"])))
    words = [*options("ec-p256"), "--stamp-lineage", str(lineage), "--stamp-signer"]
    words += [*options("rsa-4096"), "--out", str(tmp_path / "out.apk")]
    assert main(["sign", *words, str(unsigned_apk)]) == 1
    assert "does not hold its certificate" in capsys.readouterr().err
    assert not (tmp_path / "out.apk").exists()
