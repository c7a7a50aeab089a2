"""Ordinary programs in a guest, which find what they would find on any small Linux."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.image import Image, default_cache, standard_library
from avf.sdk import INCLUDE
from tests.guest.machine import TIMEOUT, App, Outcome, machine, make_app

pytestmark = pytest.mark.vm

PAYLOADS = Path(__file__).parent / "payload"
GUIDE = Path(__file__).parents[2] / "docs/guest.md"
VENDORED = b"""
def where():
    return __file__

if __name__ == "__main__":
    print(where())
"""


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An app with every payload of this file in it."""
    apk = ApkBuilder("com.example.programs")
    for name in ("ordinary.py", "interpreter.py", "loaded.py", "modules.py"):
        apk.add(f"bin/{name}", PAYLOADS / name)
    apk.add("site-packages/vendored.py", VENDORED)
    apk.add("assets/modules.txt", "\n".join(standard_library(default_cache())).encode())
    apk.add_native_library("libwords.so", compile_cpp(PAYLOADS / "words.cpp", tmp_path / "words"))
    return make_app(tmp_path, apk, SigningKey.generate(), "ordinary.py")


def compile_cpp(source: Path, output: Path) -> bytes:
    options = ["-std=c++17", "-O1", "-Wall", "-shared", "-fPIC", f"-I{INCLUDE}"]
    subprocess.run(["g++", *options, "-o", output, source], check=True)
    return output.read_bytes()


def run(image_dir: Path, app: App, payload: str) -> tuple[list[str], Outcome]:
    """What the payload printed, and all else."""
    with machine(Image(image_dir), app.folder, app.running(payload)) as running:
        outcome = running.finish(3 * TIMEOUT)
    return [line for line in outcome.log.splitlines() if " agent: " not in line], outcome


def test_what_an_ordinary_program_takes_for_granted(image_dir: Path, app: App) -> None:
    lines, _ = run(image_dir, app, "ordinary.py")
    assert lines[:3] == ["one", "two", "three"]
    wrong = [line for line in lines[3:] if not line.endswith(": ok")]
    assert not wrong, "\n".join(wrong)
    assert len(lines) > 20


def test_a_script_has_an_interpreter_of_its_own(image_dir: Path, app: App) -> None:
    """The same as one that was executed for it in the guest, and as the distribution's on this host."""
    lines, outcome = run(image_dir, app, "interpreter.py")
    assert len(lines) == 2, outcome.log
    forked, executed = map(json.loads, lines)
    host = subprocess.run(
        ["/usr/bin/python3", PAYLOADS / "interpreter.py"],
        env={"HOME": "/data", "LANG": "C.UTF-8", "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    ordinary = json.loads(host.stdout)
    for name, value in ordinary.items():
        assert forked[name] == value, name
        assert executed[name] == value, name


def test_modules_that_are_loaded_already_are_those_of_an_interpreter(
    image_dir: Path, app: App
) -> None:
    """The agent imported them before most of /usr was there."""
    lines, outcome = run(image_dir, app, "loaded.py")
    assert lines == ["done"], outcome.log


def test_every_module_of_the_standard_library_but_those_in_the_guide(
    image_dir: Path, app: App
) -> None:
    lines, outcome = run(image_dir, app, "modules.py")
    assert lines[-1] == "done", outcome.log
    missing = {line.removeprefix("missing ").partition(":")[0] for line in lines[:-1]}
    in_guide = set(missing_by_guide())
    assert {name for name in missing if not with_parents(name) & in_guide} == set(), outcome.log
    known = sys.stdlib_module_names | set(standard_library(default_cache()))
    assert in_guide & known <= missing


def with_parents(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[: count + 1]) for count in range(len(parts))}


def missing_by_guide() -> list[str]:
    """The first column of the guide's table of missing modules."""
    section = GUIDE.read_text().partition("| not there | why |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return re.findall(r"`([a-z0-9_.]+)`", " ".join(rows))


def test_a_payload_in_cpp(image_dir: Path, app: App) -> None:
    lines, outcome = run(image_dir, app, "libwords.so")
    assert lines == ["caught map", "12 words"], outcome.log
    assert outcome.heard[-1] == ("finished", 12)
