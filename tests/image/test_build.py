"""The image as a whole, built from the real packages of the host's distribution."""

import json
import marshal
import os
import subprocess
from pathlib import Path

import pytest

import avf
from avf.image import Image, build_image
from avf.image.__main__ import main
from tests.programs import path_of


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


def test_who_builds_it_makes_no_difference(image: Image, cache: Path, tmp_path: Path) -> None:
    """A umask that keeps files from others, an own cache: what the guest has keeps its rights."""
    own = tmp_path / "cache"
    own.mkdir()
    for name in ("apt", "archives", "kernel", "packages.json", "python-package"):
        (own / name).symlink_to(cache / name)
    former = os.umask(0o077)
    try:
        again = build_image(tmp_path / "image", cache=own)
    finally:
        os.umask(former)
    assert next(own.glob("userland-*")).is_dir()
    for path in sorted(image.directory.iterdir()):
        assert path.read_bytes() == (again.directory / path.name).read_bytes(), path.name


def test_files(image: Image) -> None:
    assert sorted(path.name for path in image.directory.iterdir()) == [
        "microdroid.json",
        "microdroid_initrd_debuggable.img",
        "microdroid_initrd_normal.img",
        "microdroid_system.img",
        "vmlinux",
    ]


def test_description(image: Image) -> None:
    config = json.loads(image.config.read_bytes())
    assert config["kernel"] == "vmlinux"
    partition = {"label": "system", "path": "microdroid_system.img"}
    assert config["disks"] == [{"writable": False, "partitions": [partition]}]
    assert config["memory_mib"] == 256
    assert config["platform_version"] == "~1.0"
    assert config["x-avf"]["machine"] == "fast"
    assert "panic=-1" in config["params"].split()
    assert "console=null" in config["params"].split()
    assert config["x-avf"]["debuggable_params"] == "console=ttyS0"


def test_only_one_initrd_is_debuggable(image: Image) -> None:
    extra = listing(image.initrd_debuggable) ^ listing(image.initrd_normal)
    assert extra == {"etc/avf/debuggable"}


@pytest.fixture(scope="module")
def system(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contents of the system."""
    folder = tmp_path_factory.mktemp("system") / "tree"
    subprocess.run(["fsck.erofs", f"--extract={folder}", str(image.system)], check=True)
    return folder


def test_contents(image: Image, system: Path) -> None:
    files = listing(image.initrd_normal)
    assert {
        "init",
        "usr/bin/python3",
        "usr/lib/avf/modules.bin",
        "etc/hosts",
        "etc/ld.so.cache",
        "etc/services",
        # glibc loads it when a thread ends by itself
        "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
    } <= files
    # what is not needed before the system is mounted would only take memory
    assert not [path for path in files if path.endswith(".py") or "busybox" in path]
    for path in (
        "bin/python3",
        "bin/sh",
        "lib/avf/modules.bin",
        "lib/python3/dist-packages/avf_payload.pyc",
        "lib/x86_64-linux-gnu/libvm_payload.so",
    ):
        assert (system / path).exists(), path


def test_nothing_is_compiled_when_a_guest_starts(image: Image, tmp_path: Path) -> None:
    """Neither init itself nor the classes that the standard library makes by evaluating text."""
    with image.initrd_normal.open("rb") as file:
        command = ["cpio", "--quiet", "-id", "--no-absolute-filenames", "init", "usr/lib/avf/*"]
        subprocess.run(command, stdin=file, check=True, cwd=tmp_path)
    interpreter, program = (tmp_path / "init").read_text().removeprefix("#!").split()
    assert interpreter == "/usr/bin/python3"
    assert (tmp_path / program.lstrip("/")).suffix == ".pyc"
    bundle = (tmp_path / "usr/lib/avf/modules.bin").read_bytes()
    modules, expressions = marshal.loads(bundle)
    assert {"functools", "selectors", "collections", "avf.guest.agent"} <= modules.keys()
    assert not {"asyncio", "inspect", "logging", "ssl"} & modules.keys()
    for fields in ("hits, misses, maxsize, currsize", "fileobj, fd, events, data"):
        assert f"lambda _cls, {fields}: _tuple_new(_cls, ({fields}))" in expressions


def test_the_trees_of_boot_and_system_agree(image: Image, system: Path, tmp_path: Path) -> None:
    """What is in both is the same: programs that are running when the system is mounted go on with what they have."""
    with image.initrd_normal.open("rb") as file:
        command = ["cpio", "--quiet", "-id", "--no-absolute-filenames", "usr/*"]
        subprocess.run(command, stdin=file, check=True, cwd=tmp_path)
    both = [path for path in (tmp_path / "usr").rglob("*") if path.is_file()]
    shared = [path for path in both if (system / path.relative_to(tmp_path / "usr")).is_file()]
    assert len(shared) > 10
    for path in shared:
        other = system / path.relative_to(tmp_path / "usr")
        assert path.read_bytes() == other.read_bytes(), path


def test_there_are_modules_for_real_processors(image: Image, system: Path, tmp_path: Path) -> None:
    with image.initrd_normal.open("rb") as file:
        command = [
            "cpio",
            "--quiet",
            "-id",
            "--no-absolute-filenames",
            "etc/avf/*",
            "usr/lib/modules/*",
        ]
        subprocess.run(command, stdin=file, check=True, cwd=tmp_path)
    lists = tmp_path / "etc/avf"
    at_boot = (lists / "processor-modules").read_text().split()
    assert "/usr/lib/modules/sha256_ssse3.ko" in at_boot
    assert all((tmp_path / path.lstrip("/")).exists() for path in at_boot)
    later = (lists / "processor-storage-modules").read_text().split()
    assert later[-1] == "/usr/lib/modules/aesni_intel.ko"
    assert all((system / path.removeprefix("/usr/")).exists() for path in later)


def test_no_library_is_missing(system: Path) -> None:
    libraries = system / "lib/x86_64-linux-gnu"
    for path in (*libraries.glob("*.so*"), *system.glob("lib/python3.*/lib-dynload/*.so")):
        done = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            if "(NEEDED)" in line:
                name = line.rpartition("[")[2].rstrip("]")
                assert (libraries / name).exists(), f"{path.name} needs {name}"


def test_the_initial_disk_knows_the_systems_root_hash(image: Image, tmp_path: Path) -> None:
    """As veritysetup sees it."""
    with image.initrd_normal.open("rb") as file:
        command = ["cpio", "--quiet", "-i", "--to-stdout", "etc/avf/system"]
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=True)
    root_hash, blocks = done.stdout.split()
    program = path_of("veritysetup")
    verify = [program, "verify", image.system, image.system, root_hash, "--no-superblock"]
    options = [f"--data-blocks={blocks}", f"--hash-offset={int(blocks) * 4096}", "--salt=-"]
    subprocess.run([*verify, *options], check=True)
    damaged = bytearray(image.system.read_bytes())
    damaged[1 << 20] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    verify[2] = tmp_path / "damaged"
    assert subprocess.run([*verify, *options], capture_output=True, check=False).returncode != 0


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
