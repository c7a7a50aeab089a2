"""The examples do what they say, with real machines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def apk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("payload") / "sample.apk"
    subprocess.run([sys.executable, "examples/build_payload.py", path], cwd=ROOT, check=True)
    return path


@pytest.fixture(autouse=True)
def image(monkeypatch: pytest.MonkeyPatch, runtime_dir: Path) -> None:
    if "AVF_IMAGE_DIR" not in os.environ:
        monkeypatch.setenv("AVF_IMAGE_DIR", str(ROOT / "build/image"))


def run(example: str, *arguments: str | Path) -> str:
    command = [sys.executable, f"examples/{example}", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=180
    ).stdout


@pytest.mark.vm
def test_vsock_echo(apk: Path) -> None:
    output = run("vsock_echo.py", apk, "Look not into the abyss")
    assert "\nssyba eht otni ton kooL\n" in output
    assert output.endswith("\nVmDied(reason=<DeathReason.SHUTDOWN: 3>)\n")


@pytest.mark.vm
def test_guest_service(apk: Path) -> None:
    output = run("guest_service.py", apk, "you")
    assert output.startswith("Hello you, this is ")
    assert output.endswith("VM ended: Shutdown\n")


@pytest.mark.vm
def test_native_service(apk: Path) -> None:
    assert run("native_service.py", apk).splitlines() == [
        "0 milk",
        "1 bread and milk",
        "2 naïve 😀",
        "milk is in [0, 1]",
        "number 2 is naïve 😀",
        "number 7 is None",
        "SERVICE_SPECIFIC(1): the notebook is full",
        "VM ended: Shutdown",
    ]


def test_the_interfaces_are_those_of_the_aidl_files() -> None:
    arguments = ["--check", "-o", "examples/payload", "--map", "com.example=interfaces"]
    command = [sys.executable, "-m", "avf.aidlc", *arguments, "examples/payload/aidl"]
    subprocess.run(command, cwd=ROOT, check=True)


@pytest.mark.vm
def test_many_vms(apk: Path) -> None:
    lines = sorted(line.partition(": ")[2] for line in run("many_vms.py", apk, "2").splitlines())
    assert lines == ["0 rebmun si siht", "1 rebmun si siht"]
