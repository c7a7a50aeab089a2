"""The `vm` command with the real virtmgr, and two machines that really run."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[2] / "build"
VM = [sys.executable, "-m", "avf.cli"]


@pytest.fixture(autouse=True)
def image(monkeypatch: pytest.MonkeyPatch, runtime_dir: Path, tmp_path: Path) -> None:
    if "AVF_IMAGE_DIR" not in os.environ:
        monkeypatch.setenv("AVF_IMAGE_DIR", str(BUILD / "image"))
    monkeypatch.chdir(tmp_path)


def vm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*VM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_files(tmp_path: Path) -> None:
    assert vm("create-partition", "instance.img", "5000", "-t", "instance").returncode == 0
    content = (tmp_path / "instance.img").read_bytes()
    assert content.startswith(b"Android-VM-instance")
    assert len(content) == 8192
    assert vm("list").stdout == "Running VMs: []\n"


def test_a_raw_vm_that_fits_no_platform(tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    (tmp_path / "vm.json").write_text('{"kernel": "kernel", "platform_version": "~2.0"}')
    result = vm("run", "vm.json")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: Failed to create VM\n  because: Incompatible platform")
    assert "Incompatible platform version" in result.stderr


@pytest.mark.vm
def test_run_app() -> None:
    apk = BUILD / "payload/sample.apk"
    result = vm(
        "run-app", apk, "app.idsig", "instance.img", "--payload-binary-name", "libhello.so",
        "--debug", "full", "--console", "console", "--log", "log", "--payload-status",
    )  # fmt: skip
    assert result.returncode == 0
    created, ended = result.stdout.splitlines()
    pattern = (
        r'Created VM from ".*sample.apk"!PayloadConfig\(.*\) with CID (\d+), state is STARTING.'
    )
    assert re.fullmatch(pattern, created)
    assert ended == "VM ended: Shutdown"
    assert result.stderr.splitlines() == [
        "payload started",
        "payload is ready",
        "payload finished with exit code 0",
    ]
    assert "Hello from a native payload!" in Path("log").read_text()
    assert "Linux version" in Path("console").read_text()


@pytest.mark.vm
def test_run_microdroid_until_it_is_interrupted() -> None:
    command = [*VM, "run-microdroid", "--work-dir", "work", "--console", "console", "--log", "log"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stderr.readline() == "payload started\n"
        assert process.stderr.readline() == "payload is ready\n"
        listed = vm("list").stdout
        assert re.search(rf"\n        cid: \d+,\n.*\n        requesterUid: {os.getuid()},", listed)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().endswith("VM ended: Killed\n")
        assert process.wait() == 128 + signal.SIGINT
