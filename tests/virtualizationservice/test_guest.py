"""A tombstone of a real guest."""

import json
import os
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.client import DeathReason, VirtualizationService
from tests.eventually import eventually
from tests.vm.conftest import prepare_app, service

__all__ = ["service"]

pytestmark = pytest.mark.vm


def test_a_guest_s_tombstone(
    service: VirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    builder = ApkBuilder("com.example.dying")
    builder.add("bin/dying.py", Path(__file__).parent / "payload" / "dying.py", mode=0o755)
    with (tmp_path / "app.apk").open("w+b") as file:
        builder.build(file, SigningKey.generate())
    app = prepare_app(service, tmp_path, tmp_path / "app.apk")
    with service.create_vm(app.running("dying.py")) as vm:
        vm.start()
        assert vm.wait_for_death(300) is DeathReason.SHUTDOWN
        note_file = runtime_dir / "tombstones" / "tombstone_00.json"
        eventually(note_file.with_suffix("").exists, True)
        note = json.loads(note_file.read_text())
        assert (note["uid"], note["cid"], note["size"]) == (os.getuid(), vm.cid, 12000)
        assert note["ended"] == "complete"
    assert note_file.with_suffix("").read_bytes() == b"*** *** ***\n" * 1000
    log = (runtime_dir / "service.log").read_text()
    assert "Received 12000 bytes from guest & wrote to tombstone file\n" in log
