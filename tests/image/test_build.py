"""The image as a whole, built from the real packages of the host's distribution."""

import json
import subprocess
from pathlib import Path

import pytest

import avf
from avf.image import Image, build_image
from avf.image.__main__ import main


@pytest.fixture(scope="module")
def image(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build_image(tmp_path_factory.mktemp("image"), cache=cache)


def listing(initrd: Path) -> set[str]:
    with initrd.open("rb") as file:
        done = subprocess.run(
            ["cpio", "--quiet", "-t"], stdin=file, capture_output=True, text=True, check=True
        )
    return set(done.stdout.splitlines())


def test_same_inputs_same_bytes(image: Image, cache: Path, tmp_path: Path) -> None:
    again = build_image(tmp_path, cache=cache)
    for first, second in zip(
        sorted(image.directory.iterdir()), sorted(again.directory.iterdir()), strict=True
    ):
        assert first.read_bytes() == second.read_bytes(), first.name


def test_files(image: Image) -> None:
    assert sorted(path.name for path in image.directory.iterdir()) == [
        "microdroid.json",
        "microdroid_initrd_debuggable.img",
        "microdroid_initrd_normal.img",
        "vmlinux",
    ]


def test_description(image: Image) -> None:
    config = json.loads(image.config.read_bytes())
    assert config["kernel"] == "vmlinux"
    assert config["disks"] == []
    assert config["memory_mib"] == 256
    assert config["platform_version"] == "~1.0"
    assert config["x-avf"]["machine"] == "fast"
    assert "panic=-1" in config["params"].split()
    assert "console=null" in config["params"].split()
    assert config["x-avf"]["debuggable_params"] == "console=ttyS0"


def test_only_one_initrd_is_debuggable(image: Image) -> None:
    extra = listing(image.initrd_debuggable) ^ listing(image.initrd_normal)
    assert extra == {"etc/avf/debuggable"}


def test_contents(image: Image) -> None:
    files = listing(image.initrd_normal)
    assert {
        "init",
        "usr/bin/python3",
        "usr/bin/sh",
        "usr/lib/avf/modules.bin",
    } <= files
    assert {
        "usr/lib/avf/python/avf_payload.pyc",
        "usr/lib/x86_64-linux-gnu/libvm_payload.so",
    } <= files
    # glibc loads it when a thread ends by itself
    assert "usr/lib/x86_64-linux-gnu/libgcc_s.so.1" in files
    assert not [path for path in files if path.endswith(".py")]
    # where the interpreter would look first for everything
    assert not [path for path in files if path.startswith("usr/lib/python") and "zip" in path]


def test_nothing_of_the_building_host_gets_in(image: Image) -> None:
    assert str(Path(avf.__file__).parents[1]).encode() not in image.initrd_debuggable.read_bytes()


def test_command(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--output", str(tmp_path), "--cache", str(cache)]) == 0
    output = capsys.readouterr()
    assert str(tmp_path / "microdroid.json") in output.out
    assert "initial RAM disks" in output.err


def test_command_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "packages.json").write_text("{")
    assert main(["build", "--output", str(tmp_path / "out"), "--cache", str(tmp_path)]) == 1
    assert "packages.json is damaged" in capsys.readouterr().err
