"""A guest whose kernel panics."""

import json
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.client import DeathReason, DebugLevel, VirtualizationService
from avf.vmm.qemu.panic import DUMP_MAGIC
from tests.eventually import eventually
from tests.vm.conftest import prepare_app

pytestmark = pytest.mark.vm

PANIC = b"#!/bin/sh\necho c > /proc/sysrq-trigger\n"
OWN_DUMP = b"#!/bin/sh\nprintf 'a dump of its own' > /dev/hvc1\necho c > /proc/sysrq-trigger\n"


@pytest.fixture(scope="module")
def panicking_apk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apk") / "panic.apk"
    with path.open("w+b") as file:
        apk = ApkBuilder("com.example.panic").add("bin/panic.sh", PANIC)
        apk.add("bin/own_dump.sh", OWN_DUMP).build(file, SigningKey.generate())
    return path


@pytest.mark.parametrize("debug_level", [DebugLevel.FULL, DebugLevel.NONE])
def test_only_the_memory_of_a_debuggable_guest_is_filed(
    service: VirtualizationService,
    runtime_dir: Path,
    tmp_path: Path,
    panicking_apk: Path,
    debug_level: DebugLevel,
) -> None:
    app = prepare_app(service, tmp_path, panicking_apk)
    with service.create_vm(app.running("panic.sh", debug_level=debug_level)) as vm:
        vm.start()
        assert vm.wait_for_death(timeout=300) is DeathReason.CRASH
        eventually((runtime_dir / "vms" / str(vm.cid) / "ramdump").exists, False)
        tombstones = sorted((runtime_dir / "tombstones").glob("tombstone_*"))
        if debug_level is DebugLevel.NONE:
            assert tombstones == []
            return
        dump, note_file = tombstones
        note = json.loads(note_file.read_text())
        assert (note["cid"], note["ended"]) == (vm.cid, "complete")
    with dump.open("rb") as file:
        head = file.read(64 << 10)
    assert head.startswith(DUMP_MAGIC)
    assert b"KDUMP   " in head
    assert dump.stat().st_size == note["size"] > 10 << 20


def test_what_the_guest_itself_has_dumped_is_filed_instead(
    service: VirtualizationService, runtime_dir: Path, tmp_path: Path, panicking_apk: Path
) -> None:
    app = prepare_app(service, tmp_path, panicking_apk)
    with service.create_vm(app.running("own_dump.sh")) as vm:
        vm.start()
        assert vm.wait_for_death(timeout=300) is DeathReason.CRASH
    assert (runtime_dir / "tombstones/tombstone_00").read_bytes() == b"a dump of its own"
