"""`rotate` and `lineage` beside apksigner's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import Capability, SigningKey, parse_lineage_file
from avf.apk.__main__ import main
from tests.apk.conftest import key_arguments, run_apksigner

KINDS = ("ec-p256", "rsa-2048", "dsa-2048")
Run = Callable[..., tuple[int, dict[str, object], str]]
Options = dict[str, list[str]]
FLAGS = {
    "--set-installed-data": Capability.INSTALLED_DATA,
    "--set-shared-uid": Capability.SHARED_UID,
    "--set-permission": Capability.PERMISSION,
    "--set-rollback": Capability.ROLLBACK,
    "--set-auth": Capability.AUTH,
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: object) -> tuple[int, dict[str, object], str]:
        status = main([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out), captured.err

    return run_command


@pytest.fixture(scope="module")
def options(keys: dict[str, SigningKey], tmp_path_factory: pytest.TempPathFactory) -> Options:
    directory = tmp_path_factory.mktemp("keys")
    return {kind: key_arguments(keys[kind], directory / kind) for kind in KINDS}


def capabilities(path: Path) -> list[Capability]:
    return [node.capabilities for node in parse_lineage_file(path.read_bytes())]


@pytest.mark.parametrize("ours", [True, False])
def test_the_same_capabilities_as_apksigner(
    run: Run, options: Options, tmp_path: Path, ours: bool
) -> None:
    """The same words to both make the same lineage, whoever made the one before."""
    made = {"ours": tmp_path / "ours", "theirs": tmp_path / "theirs"}

    def both(command: str, *words: str, first: bool = False) -> None:
        before = made["ours" if ours else "theirs"]
        given = [] if first else ["--in", str(before)]
        after = {name: tmp_path / f"{name}.new" for name in made}
        assert run(command, *given, "--out", after["ours"], *words)[0] == 0
        run_apksigner(command, *given, "--out", str(after["theirs"]), *words)
        for name, path in after.items():
            path.replace(made[name])
        assert capabilities(made["ours"]) == capabilities(made["theirs"])

    old, middle, new = (options[kind] for kind in KINDS)
    both("rotate", "--old-signer", *old, "--new-signer", *middle, first=True)
    both(
        "rotate",
        *("--old-signer", *middle, "--set-rollback", "true"),
        *("--new-signer", *new, "--set-auth", "false"),
    )
    both("lineage", "--signer", *old, "--set-installed-data", "false")
    both(
        "lineage",
        *("--signer", *old, "--set-rollback"),
        *("--signer", *middle, "--set-permission", "false", "--set-auth", "false"),
    )


@pytest.mark.parametrize("option", FLAGS)
def test_each_capability_is_set_and_taken(
    run: Run, options: Options, tmp_path: Path, option: str
) -> None:
    path = tmp_path / "lineage"
    old, new = options["ec-p256"], options["rsa-2048"]
    for value in ("false", "true"):
        status, report, _ = run(
            "rotate", "--out", path, "--old-signer", *old, option, value, "--new-signer", *new
        )
        assert status == 0
        first = capabilities(path)[0]
        assert (FLAGS[option] in first) == (value == "true")
        shown = report["lineage"][0]["capabilities"]  # type: ignore[index]
        assert (FLAGS[option].name in shown) == (value == "true")


def test_a_lineage_in_an_apk(run: Run, options: Options, unsigned: Path, tmp_path: Path) -> None:
    """Read from an APK, extended, and used as the lineage of another."""
    lineage, longer, out = tmp_path / "lineage", tmp_path / "longer", tmp_path / "out.apk"
    old, middle, new = (options[kind] for kind in KINDS)
    run("rotate", "--out", lineage, "--old-signer", *old, "--new-signer", *middle)
    for since in ("28", "33"):
        sign = ["sign", unsigned, "--out", out, *old, "--next-signer", *middle]
        more = ["--lineage", lineage, "--rotation-min-sdk-version", since]
        assert run(*sign, *more)[0] == 0
        status, report, _ = run("lineage", "--in", out, "--print-certs", "-v")
        assert (status, report["written"]) == (0, None)
        nodes = report["lineage"]
        assert isinstance(nodes, list)
        assert [node["public_key"]["algorithm"] for node in nodes] == ["EC", "RSA"]
        assert run("lineage", "--in", out, "--out", longer)[0] == 0
        assert longer.read_bytes() == lineage.read_bytes()
        rotated = ["rotate", "--in", out, "--out", longer, "--old-signer", *middle]
        assert run(*rotated, "--new-signer", *new)[0] == 0
        assert len(capabilities(longer)) == 3
    before = out.read_bytes()
    final = ["sign", "--in", out, "--out", tmp_path / "again.apk", *old, "--next-signer", *middle]
    assert run(*final, "--lineage", out)[0] == 0
    assert run("sign", "--in", out, "--in-place", *old, "--lineage", out)[0] == 1
    assert out.read_bytes() == before


def test_what_is_no_lineage_is_named(
    run: Run, options: Options, unsigned: Path, signed: Path, tmp_path: Path
) -> None:
    junk, lineage = tmp_path / "junk", tmp_path / "lineage"
    junk.write_bytes(b"junk")
    old, new, other = (options[kind] for kind in KINDS)
    run("rotate", "--out", lineage, "--old-signer", *old, "--new-signer", *new)
    for path, code, message in (
        (junk, "lineage", "neither a lineage nor an APK"),
        (unsigned, "scheme-not-found", "is not signed"),
        (signed, "lineage", "has no lineage"),
    ):
        status, report, error = run("lineage", "--in", path)
        assert (status, report["error"]["code"]) == (1, code)  # type: ignore[index]
        assert error.startswith(f"{path}: ")
        assert message in error
    change = ["lineage", "--in", lineage, "--out", tmp_path / "out", "--signer", *other]
    status, _, error = run(*change, "--set-auth", "false")
    assert (status, "does not hold the signer's certificate" in error) == (1, True)
    cut = lineage.read_bytes()
    for end in range(0, len(cut), 97):
        lineage.write_bytes(cut[:end])
        assert run("lineage", "--in", lineage)[0] == 1
