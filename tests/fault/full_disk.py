"""Run in a mount namespace of its own: makes VMs on a file system that fills up, page by page and inode by inode.

Prints one JSON list, one object for each attempt.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from avf.binder import RemoteException
from avf.client import AppConfig, VirtualizationService, connect
from tests.eventually import eventually

PAGE = 4096


@contextlib.contextmanager
def only(filler: Path, pages: int) -> Iterator[None]:
    """Leaves but `pages` pages free on the file system of `filler`."""
    with open(filler, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(PAGE))
        file.truncate(file.tell() - pages * PAGE)
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def only_inodes(filler: Path, count: int) -> Iterator[None]:
    filler.mkdir()
    free = os.statvfs(filler).f_ffree
    for number in range(free - count):
        (filler / str(number)).touch()
    try:
        yield
    finally:
        for path in filler.iterdir():
            path.unlink()
        filler.rmdir()


def attempt(service: VirtualizationService, config: AppConfig, vms: Path) -> dict[str, object]:
    error = None
    try:
        service.create_vm(config).close()
    except RemoteException as e:
        error = e.message
    eventually(lambda: list(vms.iterdir()), [])
    return {"error": error, "vms": len(service.debug_list_vms())}


def main(apk: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        runtime = Path(scratch, "runtime")
        runtime.mkdir()
        options = "size=1m,nr_inodes=100,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", runtime], check=True)
        os.environ["AVF_RUNTIME_DIR"] = str(runtime)
        try:
            print(json.dumps(attempts(runtime, Path(scratch), apk)))
        finally:
            subprocess.run(["umount", "--lazy", runtime], check=True)


def attempts(runtime: Path, scratch: Path, apk: str) -> list[dict[str, object]]:
    (scratch / "idsig").touch()
    (scratch / "instance").write_bytes(bytes(1 << 20))
    config = AppConfig(
        apk=apk,
        idsig=scratch / "idsig",
        instance_image=scratch / "instance",
        payload_binary_name="none.py",
    )
    found = []
    with connect() as service:
        service.create_or_update_idsig_file(apk, scratch / "idsig")
        attempt(service, config, runtime / "vms")
        for left in range(4):
            with only(runtime / "filler", left):
                found.append(
                    {"kind": "pages", "free": left, **attempt(service, config, runtime / "vms")}
                )
        for left in range(6):
            with only_inodes(runtime / "filler", left):
                found.append(
                    {"kind": "inodes", "free": left, **attempt(service, config, runtime / "vms")}
                )
        found.append({"kind": "afterwards", **attempt(service, config, runtime / "vms")})
    return found


if __name__ == "__main__":
    main(sys.argv[1])
