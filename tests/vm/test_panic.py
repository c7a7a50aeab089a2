"""A guest whose kernel panics."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.client import AppConfig, DeathReason, DebugLevel, VirtualizationService, connect
from avf.vmm.qemu.panic import DUMP_MAGIC
from tests.eventually import eventually
from tests.vm.conftest import prepare_app

pytestmark = pytest.mark.vm

HOARD = b"x = []\nwhile True: x.append(bytearray(1 << 20))\n"
OWN_DUMP = b"#!/bin/sh\nprintf 'a dump of its own' > /dev/hvc1\necho c > /proc/sysrq-trigger\n"
PANIC_INSTEAD_OF_KILLING = "sysctl.vm.panic_on_oom=2"


@pytest.fixture(scope="module")
def panicking_apk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apk") / "panic.apk"
    task = {"type": "microdroid_launcher", "command": "own_dump.sh", "run_as_root": True}
    with path.open("w+b") as file:
        apk = ApkBuilder("com.example.panic").add("bin/hoard.py", HOARD)
        apk.add("assets/own_dump.json", json.dumps({"task": task}).encode())
        apk.add("bin/own_dump.sh", OWN_DUMP).build(file, SigningKey.generate())
    return path


@pytest.fixture
def panicking_image(image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest image with a kernel that panics where it would have killed a process for want of memory."""
    folder = tmp_path / "image"
    folder.mkdir()
    for path in image_dir.iterdir():
        (folder / path.name).symlink_to(path)
    config = json.loads((image_dir / "microdroid.json").read_text())
    config["params"] += f" {PANIC_INSTEAD_OF_KILLING}"
    (folder / "microdroid.json").unlink()
    (folder / "microdroid.json").write_text(json.dumps(config))
    monkeypatch.setenv("AVF_IMAGE_DIR", str(folder))


@pytest.mark.parametrize("debug_level", [DebugLevel.FULL, DebugLevel.NONE])
@pytest.mark.usefixtures("panicking_image")
def test_only_the_memory_of_a_debuggable_guest_is_filed(
    runtime_dir: Path, tmp_path: Path, panicking_apk: Path, debug_level: DebugLevel
) -> None:
    with connect() as service:
        app = prepare_app(service, tmp_path, panicking_apk)
        config = app.running("hoard.py", debug_level=debug_level)
        cid = run_until_it_crashes(service, config)
        eventually((runtime_dir / "vms" / str(cid) / "ramdump").exists, False)
        tombstones = sorted((runtime_dir / "tombstones").glob("tombstone_*"))
        if debug_level is DebugLevel.NONE:
            assert tombstones == []
            return
        dump, note_file = tombstones
        note = json.loads(note_file.read_text())
        assert (note["cid"], note["ended"]) == (cid, "complete")
    with dump.open("rb") as file:
        head = file.read(64 << 10)
    assert head.startswith(DUMP_MAGIC)
    assert b"KDUMP   " in head
    assert dump.stat().st_size == note["size"] > 10 << 20


def test_what_the_guest_itself_has_dumped_is_filed_instead(
    service: VirtualizationService, runtime_dir: Path, tmp_path: Path, panicking_apk: Path
) -> None:
    app = prepare_app(service, tmp_path, panicking_apk)
    config = replace(app.config, payload_binary_name=None, config_path="assets/own_dump.json")
    run_until_it_crashes(service, config)
    assert (runtime_dir / "tombstones/tombstone_00").read_bytes() == b"a dump of its own"


def run_until_it_crashes(service: VirtualizationService, config: AppConfig) -> int:
    """The CID of the VM that was."""
    with service.create_vm(config) as vm:
        vm.start()
        assert vm.wait_for_death(timeout=300) is DeathReason.CRASH
        return vm.cid
