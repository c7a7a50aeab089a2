"""What users mistype and mistake: each is told what is wrong with what, and how to go on, before any VM starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of each kind that somebody could give by mistake."""
    folder = tmp_path_factory.mktemp("wrong")
    files = {
        "a.py": b"print('hi')\n",
        "text.txt": b"text\n",
        "noise.apk": os.urandom(5000),
        "empty.c": b"int nothing;\n",
        "half.json": b"{",
        "name.json": b'{"name": 3}',
        "list.json": b"[]",
        "kernel.json": b'{"kernel": "/nowhere"}',
    }
    for name, content in files.items():
        folder.joinpath(name).write_bytes(content)
    folder.joinpath("project").mkdir()
    folder.joinpath("project/payload.toml").write_text("main = 5\n")
    return folder


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("run-app noise.apk", "noise.apk is no APK", "an APK is needed"),
        ("run-app empty.c", "empty.c has no function AVmPayload_main, and no main", "vm_payload.h"),
        ("run-app a.py --mem 5T", "memoryMib is 5242880, but this host has", "less memory"),
        ("run-app a.py --name ../x", "'../x' is no name for a VM", ""),
        ("run-app a.py --name a\nb", "'a\\nb' is no name for a VM", ""),
        (
            "run-app a.py --storage text.txt",
            "text.txt is no encrypted storage: it looks like text",
            "another name",
        ),
        ("run-app ", "an empty text names no file or folder", ""),
        ("run-app a.py --log ", "an empty text names no file or folder", ""),
        ("run-app nowhere.py", "Failed to open nowhere.py: No such file", "correct the path"),
        ("new nowhere/b/c", "nowhere/b/c cannot be made: No such file", "correct the path"),
        ("run-app project", "payload.toml: main must be text or null", "correct that file"),
        ("run-app a.py --storage-size 10M", "no use without --storage or --name", "--storage FILE"),
        (
            "run-app a.py --extra-apk text.txt",
            "text.txt) can have no idsig",
            "an APK is needed",
        ),
        ("run half.json", "half.json: it is no JSON", ""),
        ("run name.json", "name.json: name must be text or null, not a whole number", ""),
        ("run list.json", "list.json: it must be an object, not a list", ""),
        ("run kernel.json", "kernel.json: platform_version is missing", ""),
        ("start ", "A VM's name is not empty", ""),
        ("build a.py --key text.txt", "it is no PEM and no DER", "vm keygen"),
        ("build a.py --password-file text.txt", "--password-file is for the key", ""),
        ("keygen nowhere/k.pem", "Error: nowhere/k.pem cannot be written: No such file", ""),
        ("keygen k.p12", "k.p12 needs a password", "--password-file"),
        ("template build --mem 1", "memoryMib is 1, but this guest image needs", ""),
        (
            "template build --image nowhere",
            "Error: no guest image (microdroid.json) in ",
            "vm doctor",
        ),
        ("template build --mem x", "'x' is no size", ""),
        ("template rm", "name the templates to remove, or say --all", "vm template list"),
        ("connect 5000 abc", "'abc' is not a valid whole number", ""),
        ("top --once --delay x", "'x' is not a valid number", ""),
        ("forward 5000 tcp:1 tcp:2", "One of FROM and TO, and not both, is a vsock port", ""),
        ("push 5000 a.py", "What to copy and where to takes two paths", ""),
        ("pool run nowhere", "cannot run nowhere: No such file", "its path"),
        ("stop 99", "there is no VM with CID 99", "vm list"),
        ("run-app a.py --console text.txt", "is no console or log of a VM", "another name"),
        ("run-app a.py --env A=1 --env A=2", "--env: A comes twice", "one value"),
        ("run-app a.py --name 2048", "looks like a CID", "another name"),
        ("run-app a.py --task-profiles X", "Unknown task profile X", "add the profile"),
        ("build a.py -o text.txt", "text.txt is not empty and is no APK", "another name"),
        ("build a.py --package x", "--package 'x' is none", "two words"),
        ("keygen text.txt", "a key is never written over", "another name"),
        ("create-idsig a.py text.txt", "Failed to make the idsig of a.py", "an APK is needed"),
    ],
)
def test_a_mistake_is_explained(
    folder: Path,
    image_dir: Path,
    runtime_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    said: str,
    hint: str,
) -> None:
    monkeypatch.delenv("AVF_WARM", raising=False)  # as whoever makes the mistake has it
    before = sorted(folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "avf.cli", *words.split(" ")],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    if hint:
        assert hint in done.stderr.partition("  try: ")[2]
    assert sorted(folder.iterdir()) == before


def test_the_virtmgr_of_what_cannot_be_run_ends(
    folder: Path, tmp_path: Path, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts while the APK is made, or is not."""
    pid, program = tmp_path / "pid", tmp_path / "virtmgr"
    program.write_text(f'#!/bin/sh\necho $$ >{pid}\nexec {sys.executable} -P -m avf.virtmgr "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("AVF_VIRTMGR", str(program))
    command = [sys.executable, "-m", "avf.cli", "run-app", "empty.c"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "has no function AVmPayload_main" in result.stderr
    assert not Path("/proc", pid.read_text().strip()).exists()
