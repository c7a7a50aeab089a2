"""The file system of the runtime directory is full: whichever write fails, the caller is told, nothing remains."""

import json
import os
import subprocess
import sys
from pathlib import Path

NO_SPACE = "No space left on device"


def test_full_disk(image_dir: Path, sample_apk: Path) -> None:
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    result = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.fault.full_disk", sample_apk],
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    attempts = json.loads(result.stdout)
    errors = [attempt["error"] for attempt in attempts]
    assert all(error is None or NO_SPACE in error for error in errors), errors
    assert {attempt["vms"] for attempt in attempts} == {0}
    by_inodes = [a["error"] for a in attempts if a["kind"] == "inodes"]
    for number, where in enumerate(["/vms/", "RpcServer"]):
        assert where in by_inodes[number], by_inodes
    by_pages = [a["error"] for a in attempts if a["kind"] == "pages"]
    assert by_pages == [None] * len(by_pages)
    assert [by_inodes[-1], errors[-1]] == [None] * 2
