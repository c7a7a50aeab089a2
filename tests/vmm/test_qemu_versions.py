"""The same command line serves every QEMU; what its versions differ in all the same is in qemu_versions.toml."""

import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from avf.disk import Disk, ImageDisk, Partition, PartitionedDisk, create_qcow2
from avf.vmm import ExitCause, Machine, Qemu, VmSpec, find_qemu, qemu_version
from avf.vsock import HybridVsock
from tests.accelerators import ACCELERATORS, choose
from tests.vmm import tiny

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("nothing_is_left")]

TABLE = tomllib.loads(Path(__file__).with_name("qemu_versions.toml").read_text())["difference"]
TIMEOUT = 60


def version() -> tuple[int, int]:
    found = re.search(r"version (\d+)\.(\d+)", qemu_version())
    assert found is not None
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row["what"]))
def test_what_differs(row: dict[str, str]) -> None:
    """Each row tells of the QEMU that is here what that says itself."""
    since = tuple(int(part) for part in row["since"].split("."))
    said = subprocess.run(
        [find_qemu(), *row["ask"].split()], check=True, capture_output=True, text=True
    ).stdout
    expected = row["new" if version() >= since else "old"]
    assert expected.format(version=".".join(map(str, version()))) in " ".join(said.split())


@pytest.fixture
def strict(tmp_path: Path) -> str:
    """A QEMU that refuses what is deprecated in its interface; of the rest it warns."""
    path = tmp_path / "qemu"
    policy = "-compat deprecated-input=reject,deprecated-output=hide"
    path.write_text(f'#!/bin/sh\nexec {find_qemu()} {policy} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[tuple[Disk, ...]]:
    """One of each kind."""
    with ExitStack() as stack:

        def image() -> int:
            file = stack.enter_context(tempfile.TemporaryFile(dir=tmp_path))
            file.truncate(1 << 20)
            return file.fileno()

        store = stack.enter_context(tempfile.TemporaryFile(dir=tmp_path)).fileno()
        create_qcow2(store, 1 << 20)
        parts = (Partition("a", image(), False), Partition("b", image(), True))
        yield (
            ImageDisk(image()),
            ImageDisk(image(), writable=True),
            ImageDisk(store, writable=True),
            PartitionedDisk(parts[:1], False),
            PartitionedDisk(parts, True),
        )


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize("machine", Machine)
def test_nothing_of_the_command_line_is_deprecated(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    strict: str,
    disks: tuple[Disk, ...],
    machine: Machine,
    accelerator: str,
) -> None:
    """QEMU takes all of it without a word."""
    choose(monkeypatch, accelerator)
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=tmp_path)) for _ in range(4)]
        console, log, failure, dump = (file.fileno() for file in files)
        bootloader = stack.enter_context(tiny.build_vsock(tmp_path).open("rb"))
        process = Qemu(strict).start(
            VmSpec(
                cid=3000,
                name="a name, with a comma",
                temporary_directory=tmp_path,
                vsock=HybridVsock(3000, tmp_path / "vsock"),
                bootloader=bootloader.fileno(),
                disks=disks,
                memory_mib=64,
                machine=machine,
                console=console,
                log=log,
                failure=failure,
                ramdump=failure,
                panic_dump=dump,
                panic_dump_limit=1 << 20,
            )
        )
        try:
            report = process.wait(TIMEOUT)  # nobody takes the guest's call, so it ends
        finally:
            process.kill()
            process.wait(TIMEOUT)
    assert report.cause is ExitCause.REBOOT, report
    assert report.stderr_tail == ""
