"""What the pages for users promise of options and reports is what the commands have and print."""

import argparse
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.apk import SigningKey
from avf.apk.__main__ import _parser, main

DOCS = Path(__file__).parents[2] / "docs"
OPTION = re.compile(r"`(-[-A-Za-z0-9]+)")
ROW = re.compile(r"(?<!\\)\|")


def sections(page: str) -> dict[str, str]:
    """The text below each heading of the second level."""
    parts = re.split(r"^## (.+)$", (DOCS / page).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of the tables, without their heads."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith(("|---", "| key", "| apksigner", "| zip")):
            yield [cell.strip() for cell in ROW.split(line)[1:-1]]


def options_of(command: str) -> set[str]:
    """The options that our command takes."""
    commands = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {name for action in commands.choices[command]._actions for name in action.option_strings}


COMMANDS = ("sign", "verify", "rotate", "lineage")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_ours_is_on_the_page_and_the_other_way_round(command: str) -> None:
    text = sections("apksigner.md")[command]
    named = {name for row in rows(text) for name in OPTION.findall(row[1])}
    only_here = re.search(r"nly here:\s+(.*?)\n\n", text, re.DOTALL)
    assert only_here
    extra = set(OPTION.findall(only_here[1])) - {"-v"}
    known = named | extra
    assert options_of(command) <= known | {"--print-certs", "--require-v4"}
    assert known <= options_of(command)
    for theirs, ours, *_ in rows(text):
        if ours:
            assert OPTION.findall(theirs) == OPTION.findall(ours), "an option has apksigner's name"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_apksigner_is_on_the_page(command: str) -> None:
    done = subprocess.run(
        ["apksigner", command, "--help"], capture_output=True, text=True, check=True
    )
    theirs = set(re.findall(r"^(--?[A-Za-z][-A-Za-z0-9]*)", done.stdout, re.MULTILINE))
    assert len(theirs) > 5
    text = sections("apksigner.md")[command]
    named = {name for row in rows(text) for name in OPTION.findall(row[0])}
    assert theirs <= named
    for row in rows(text):
        assert row[1] or row[2], f"{row[0]} is not here, and no reason is given"


# Reports


def objects() -> dict[str, dict[str, tuple[str, bool]]]:
    """The keys of every object on the page: type, and whether the key is there only sometimes."""
    found = {}
    for name, text in sections("apk-reports.md").items():
        keys = {}
        for key, kind, when in rows(text):
            sometimes = bool(re.search(r"\bwith(out)? `-|only\b", when)) and not kind.endswith("?")
            keys[key.strip("`")] = (kind, sometimes)
        found[name] = keys
    return found


OBJECTS = objects()
SIMPLE = {"text": str, "number": int, "true/false": bool}


def check(value: object, kind: str, where: str) -> None:
    """`value` is as the page says."""
    if kind.endswith("?"):
        if value is not None:
            check(value, kind[:-1], where)
    elif kind.endswith("[]"):
        assert isinstance(value, list), where
        for item in value:
            check(item, kind[:-2], where)
    elif kind in SIMPLE:
        assert type(value) is SIMPLE[kind], where
    else:
        assert isinstance(value, dict), where
        keys = OBJECTS[kind]
        assert value.keys() <= keys.keys(), where
        assert {key for key, (_, sometimes) in keys.items() if not sometimes} <= value.keys(), where
        for key, item in value.items():
            check(item, keys[key][0], f"{where}.{key}")


def test_every_report_is_as_the_page_says(
    keys: dict[str, SigningKey],
    unsigned: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    signers = {}
    for kind in ("ec-p256", "rsa-2048"):
        paths = [tmp_path / f"{kind}.key", tmp_path / f"{kind}.cert"]
        for path, data in zip(paths, keys[kind].to_pem(), strict=True):
            path.write_bytes(data)
        signers[kind] = ["--key", paths[0], "--cert", paths[1]]
    old, new = signers.values()
    lineage, out, idsig = tmp_path / "lineage", tmp_path / "out.apk", tmp_path / "out.apk.idsig"
    both = [*old, "--next-signer", *new, "--lineage", lineage]
    seen: dict[str, set[str]] = {}
    for words in (
        ["rotate", "--out", lineage, "--old-signer", *old, "--new-signer", *new],
        ["lineage", "--in", lineage],
        ["lineage", "--in", lineage, "--print-certs", "-v"],
        ["align", unsigned, "--check"],
        ["align", unsigned, "--out", tmp_path / "aligned"],
        ["sign", unsigned, "--out", out, *both],
        ["sign", unsigned, "--out", out, *both, "--v4-signing-enabled"],
        ["sign", out, "--v4-signing-enabled", "only", *both],
        ["verify", out],
        ["verify", out, "--sdk", "34", "--idsig", idsig],
        ["verify", out, "--v4-signature-file", idsig, "--print-certs", "-v"],
        ["info", out],
        ["info", unsigned],
        ["idsig", out, tmp_path / "idsig"],
        ["idsig", out, tmp_path / "idsig"],
    ):
        assert main([*map(str, words), "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        check(report, str(words[0]), str(words[0]))
        seen.setdefault(str(words[0]), set()).update(report)
    for command, found in seen.items():
        assert found == OBJECTS[command].keys(), "a key on the page never comes"


@pytest.mark.parametrize("command", ["verify", "info", "idsig", "sign", "lineage", "align"])
def test_every_failure_is_as_the_page_says(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "file")
    words = {
        "idsig": [path, "out"],
        "sign": [path, "--out", "out", "--ks", path, "--ks-pass", "pass:x"],
        "lineage": ["--in", path],
        "align": [path, "--check"],
    }.get(command, [path])
    for contents in (None, b"junk"):
        if contents:
            Path(path).write_bytes(contents)
        assert main([command, *words, "--json"]) == 1
        report = json.loads(capsys.readouterr().out)
        check(report, "failure", command)
        assert ("verified" in report) == (command == "verify")
        assert report["error"]["file"] == path


def test_every_code_is_on_the_page() -> None:
    from avf.apk import errors

    text = sections("apk.md")["Errors"]
    kinds = [errors.ApkError]
    codes = set()
    while kinds:
        kind = kinds.pop()
        codes.add(kind.code)
        kinds += kind.__subclasses__()
    assert codes - {"apk"} <= {row[0].strip("`") for row in rows(text)}
