"""`python -m avf.disk` as people and programs use it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avf.disk import (
    Component,
    CompositeDisk,
    Dialect,
    MetadataPartition,
    Partition,
    PartitionedDisk,
    PartitionKind,
    PayloadConfig,
    copy_image,
    create_qcow2,
    create_writable_partition,
    open_disk,
    write_payload,
)
from avf.disk.__main__ import main
from avf.disk.instance import MICRODROID_UUID
from tests.disk.conftest import MakeFile, name_of, run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def disk(make_file: MakeFile) -> Path:
    """A whole disk with a partition of each kind."""
    instance, store, metadata = make_file(), make_file(), make_file()
    create_writable_partition(instance, 8192, PartitionKind.ANDROID_VM_INSTANCE)
    write_payload(instance, MICRODROID_UUID, b"sealed")
    create_writable_partition(store, 8192, PartitionKind.ENCRYPTEDSTORE)
    MetadataPartition(config=PayloadConfig("main.so", 1)).write(metadata)
    parts = (
        Partition("vm-instance", instance, True),
        Partition("encryptedstore", store, True),
        Partition("payload-metadata", metadata),
        Partition("microdroid-apk", make_file(b"PK\x03\x04" + b"x" * 5000)),
        Partition("bad\n\x1b[31m", make_file(b"Android-VM-instance")),
    )
    target = make_file()
    with open_disk(PartitionedDisk(parts, True)) as reader:
        copy_image(reader, target)
    return Path(name_of(target))


def reported(capsys: Capture, *arguments: str | Path) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_partitions_and_what_they_hold(disk: Path, capsys: Capture) -> None:
    parts = reported(capsys, "partitions", disk)["partitions"]
    assert [(part["label"], part["content"]) for part in parts] == [
        ("vm-instance", "instance"),
        ("encryptedstore", "encryptedstore"),
        ("payload-metadata", "payload-metadata"),
        ("microdroid-apk", "apk"),
        ("bad\n\x1b[31m", "instance"),
    ]
    (entry,) = parts[0]["entries"]
    assert (entry["owner"], entry["offset"], entry["size"]) == ("microdroid", 512, 6)
    assert parts[1]["state"] == "unformatted"
    assert parts[2]["payload_binary_name"] == "main.so"
    assert parts[2]["extra_apk_count"] == 1
    assert (parts[3]["number"], parts[3]["offset"], parts[3]["size"]) == (4, 40960, 8192)
    assert "header: version 0" in parts[4]["damage"]


def test_text_from_images_does_not_reach_the_terminal(disk: Path, capsys: Capture) -> None:
    assert main(["partitions", str(disk)]) == 0
    out = capsys.readouterr().out
    assert r"label='bad\n\x1b[31m'" in out and "\x1b" not in out
    assert len(out.splitlines()) == 6


def test_a_partition_taken_out_is_what_was_put_in(
    disk: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    report = reported(capsys, "extract", disk, out, "--partition", "microdroid-apk")
    assert report == {"extracted": str(out), "size": 8192}
    assert out.read_bytes() == b"PK\x03\x04" + b"x" * 5000 + bytes(3188)
    assert main(["extract", str(disk), str(out)]) == 1
    assert "File exists" in capsys.readouterr().err
    assert out.stat().st_size == 8192


def test_extracting_a_qcow2_image(tmp_path: Path, make_file: MakeFile, capsys: Capture) -> None:
    fd = make_file()
    create_qcow2(fd, 1 << 20)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 88 512k 512k", name_of(fd))
    reported(capsys, "extract", name_of(fd), tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == bytes(512 << 10) + b"X" * (512 << 10)


def test_a_failed_copy_leaves_nothing(tmp_path: Path, make_file: MakeFile, capsys: Capture) -> None:
    (tmp_path / "source").write_bytes(b"compressible" * 10000)
    run("qemu-img", "convert", "-c", "-O", "qcow2", str(tmp_path / "source"), str(tmp_path / "c"))
    assert main(["extract", str(tmp_path / "c"), str(tmp_path / "out")]) == 1
    assert "compressed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_info(disk: Path, make_file: MakeFile, capsys: Capture) -> None:
    report = reported(capsys, "info", disk)
    assert (report["format"], report["content"], report["dialect"]) == ("raw", "gpt", "strict")
    assert len(report["partitions"]) == 5
    fd = make_file()
    create_qcow2(fd, 1 << 30)
    report = reported(capsys, "info", name_of(fd))
    assert report == {
        "format": "qcow2",
        "virtual_size": 1 << 30,
        "stored_size": 262144,
        "cluster_size": 65536,
        "content": None,
    }
    assert reported(capsys, "info", name_of(fd), "--check")["data_clusters"] == 0


def test_info_of_a_composite(disk: Path, capsys: Capture) -> None:
    composite = disk.parent / "composite"
    made = CompositeDisk((Component(disk.name, 0),), disk.stat().st_size)
    composite.write_bytes(made.encode())
    report = reported(capsys, "info", composite)
    assert report["format"] == "composite" and report["content"] == "gpt"
    (component,) = report["components"]
    assert component == {
        "path": str(disk),
        "offset": 0,
        "writable": False,
        "file_offset": 0,
    }
    assert reported(capsys, "gpt", composite)["dialect"] == "strict"


def test_info_of_an_ext_file_system(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "ext").touch()
    run("mke2fs", "-q", "-F", str(tmp_path / "ext"), "1024")
    assert reported(capsys, "info", tmp_path / "ext")["content"] == "ext"


def test_a_damaged_copy(disk: Path, capsys: Capture) -> None:
    with disk.open("r+b") as file:
        file.seek(512)
        file.write(b"EVIL")
    assert main(["gpt", str(disk), "--json"]) == 1
    failed = capsys.readouterr()
    error = json.loads(failed.out)["error"]
    assert error["code"] == "TableError"
    assert error["message"].endswith("partition table: no primary header at sector 1")
    assert error["message"] in failed.err
    report = reported(capsys, "gpt", disk, "--copy", "backup")
    assert report["dialect"] is None and len(report["partitions"]) == 5


@pytest.mark.parametrize("dialect", list(Dialect))
def test_dialects(make_file: MakeFile, capsys: Capture, dialect: Dialect) -> None:
    target = make_file()
    with open_disk(PartitionedDisk((Partition("a", make_file(b"a")),)), dialect) as reader:
        copy_image(reader, target)
    assert reported(capsys, "gpt", name_of(target))["dialect"] == dialect.value


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "usage:"),
        (("gpt", "x", "--copy", "third"), 2, "invalid TableCopy value"),
        (("info", "/missing"), 1, "No such file"),
        (("info", "/"), 1, "Is a directory"),
        (("info", "/dev/null"), 1, "neither a regular file nor a block device"),
    ],
)
def test_statuses(arguments: tuple[str, ...], status: int, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "avf.disk", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert message in done.stderr and "Traceback" not in done.stderr
