"""The APK of `vm run-microdroid`: it comes with the guest image, or is made on the spot with a key of its own."""

import os
import tempfile
from pathlib import Path

from avf.runtime import image_dirs

EMPTY_PAYLOAD_APK = "EmptyPayloadApp.apk"
EMPTY_PAYLOAD_NAME = "empty_payload.py"

_SCRIPT = b"""#!/usr/bin/python3
import signal

import avf_payload

avf_payload.notify_payload_ready()
while True:
    signal.pause()
"""


def find_or_build(path: Path, image: Path | None) -> Path:
    """The APK of the guest image if it has one, else `path`, made if it is missing."""
    for folder in [image] if image is not None else image_dirs():
        if (shipped := folder / EMPTY_PAYLOAD_APK).exists():
            return shipped
    if not path.exists():
        _build(path)
    return path


def _build(path: Path) -> None:
    from avf.apk import ApkBuilder, SigningKey

    builder = ApkBuilder("com.android.microdroid.empty_payload")
    builder.add(f"bin/{EMPTY_PAYLOAD_NAME}", _SCRIPT, mode=0o755)
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:
        builder.build(file.file, SigningKey.generate())  # type: ignore[arg-type]
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.link(file.name, path)
