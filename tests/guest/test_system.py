"""The guest's system: only the one its initial RAM disk was built with."""

import os
from pathlib import Path

import pytest

from avf.aidl.virtualizationcommon import ErrorCode
from avf.apk import ApkBuilder, SigningKey
from avf.image import Image
from tests.guest.machine import machine, make_app

MESSAGE = "the guest's system cannot be mounted"


@pytest.mark.vm
def test_a_system_that_was_changed_is_not_mounted(image_dir: Path, tmp_path: Path) -> None:
    """One bit of what is read first."""
    folder = tmp_path / "image"
    folder.mkdir()
    for path in image_dir.iterdir():
        (folder / path.name).symlink_to(path)
    image = Image(folder)
    content = bytearray(image.system.read_bytes())
    content[1024] ^= 1
    image.system.unlink()
    image.system.write_bytes(content)
    apk = ApkBuilder("com.example.test").add("bin/true.sh", b"#!/bin/sh\n", mode=0o755)
    app = make_app(tmp_path, apk, SigningKey.generate(), "true.sh")
    with machine(image, tmp_path, app, debuggable=False) as running:
        outcome = running.finish()
    assert outcome.heard == [("error", ErrorCode.UNKNOWN, MESSAGE)]
    assert outcome.failure.startswith(f"MICRODROID_UNKNOWN_RUNTIME_ERROR|{MESSAGE}: ")
    assert os.strerror(5) in outcome.failure
