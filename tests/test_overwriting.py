"""No command and no call writes over a file of another kind."""

import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.aidlc.main import main as avf_aidl
from avf.apk import ApkBuilder, IdsigError, SigningKey, create_or_update_idsig
from avf.apk.__main__ import main as avf_apk
from avf.cli.man import main as man
from avf.cli.output_file import check_target, write_target
from avf.cli.text import CliError
from avf.client import ConfigError, grow_storage
from avf.client.config import open_output
from avf.client.spans import TraceContext, otlp_json, start_spans
from avf.disk import DiskError, PartitionKind, create_writable_partition
from avf.image import ImageError, build_image
from avf.overwriting import UNKNOWN, Kind, foreign, looks_like
from avf.report import render
from tests.report.made import report, timeline

SPAN = start_spans(timeline(), {})
FOREIGN = {
    "text": b"my thesis\n" * 100,
    "one byte": b"x",
    "zeros": bytes(10_000),
    "a program": b"\x7fELF" + bytes(100),
    "a document": b"%PDF-1.7\n",
    "a QCOW2 image": b"QFI\xfb" + bytes(600),
    "random bytes": bytes(range(256)) * 20,
    "a key": b"-----BEGIN PRIVATE KEY-----\n",
    "a number that an idsig begins with": b"\x02\x00\x00\x00and more",
}


@pytest.fixture(scope="module")
def apk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apk") / "app.apk"
    with open(path, "w+b") as file:
        ApkBuilder().add("bin/a.py", b"print()").build(file, SigningKey.generate())
    return path


def idsig(path: Path, apk: Path) -> None:
    with open(apk, "rb") as source, open(path, "r+b") as target:
        create_or_update_idsig(source.fileno(), target.fileno())


def partition(kind: PartitionKind) -> Callable[[Path, Path], None]:
    def write(path: Path, _: Path) -> None:
        with open(path, "r+b") as file:
            create_writable_partition(file.fileno(), 1 << 20, kind)

    return write


def output(path: Path, _: Path) -> None:
    from contextlib import ExitStack

    with ExitStack() as files:
        open_output(path, "console", files)


def grow(path: Path, _: Path) -> None:
    grow_storage(path, 1 << 20)


def apk_command(*arguments: str) -> Callable[[Path, Path], None]:
    def write(path: Path, apk: Path) -> None:
        words = [str(path) if word == "OUT" else word for word in arguments]
        words = [str(apk) if word == "APK" else word for word in words]
        if avf_apk(words):
            raise FileExistsError

    return write


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "idsig": idsig,
    "raw partition": partition(PartitionKind.RAW),
    "instance": partition(PartitionKind.ANDROID_VM_INSTANCE),
    "encryptedstore": partition(PartitionKind.ENCRYPTEDSTORE),
    "console": output,
    "apk idsig": apk_command("idsig", "APK", "OUT"),
}
REFUSALS = (IdsigError, DiskError, ConfigError, FileExistsError)


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_of_another_kind_stays_as_it_is(
    tmp_path: Path, apk: Path, writer: str, content: bytes
) -> None:
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(REFUSALS):
        WRITERS[writer](path, apk)
    assert path.read_bytes() == content


@pytest.mark.parametrize("writer", WRITERS)
def test_files_without_content_and_ones_own_are_written(
    tmp_path: Path, apk: Path, writer: str
) -> None:
    path = tmp_path / "new"
    path.touch()
    WRITERS[writer](path, apk)
    path.write_bytes(b"")
    os.truncate(path, 1 << 20)  # one hole
    WRITERS[writer](path, apk)
    if writer == "console":
        path.write_bytes(b"anything a guest may say")
    if writer != "raw partition":
        WRITERS[writer](path, apk)


@pytest.mark.parametrize("name", ["text", "a program", "a document", "a QCOW2 image", "a key"])
def test_what_is_no_storage_does_not_grow(tmp_path: Path, name: str) -> None:
    path = tmp_path / "precious"
    path.write_bytes(FOREIGN[name])
    with pytest.raises(ConfigError):
        grow_storage(path, 1 << 20)
    assert path.read_bytes() == FOREIGN[name]


def test_an_interrupted_idsig_is_made_anew(tmp_path: Path, apk: Path) -> None:
    path = tmp_path / "app.idsig"
    path.write_bytes(b"\x02".ljust(5000, b"\0"))
    idsig(path, apk)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    idsig(path, apk)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "said",
    [
        b"[    0.000000] Linux version 6.12\n",
        b"<5>[    0.000000] Linux version 6.12\n",
        b"[    1.234] agent: started.\n",
        b"--------- beginning of main\n",
    ],
)
def test_logs_are_known_where_files_have_no_marks(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(said)
    output(path, path)
    assert path.read_bytes() == b""


def test_outputs_of_apk_commands(
    tmp_path: Path, apk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, certificate = SigningKey.generate().to_pem()
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "cert.pem").write_bytes(certificate)
    keys = ["--key", str(tmp_path / "key.pem"), "--cert", str(tmp_path / "cert.pem")]
    unsigned = tmp_path / "unsigned.apk"
    with zipfile.ZipFile(unsigned, "w") as archive:
        archive.writestr("bin/a.py", "")
    precious = tmp_path / "precious.txt"
    precious.write_text("my thesis")
    commands = [
        ["sign", *keys, "--out", str(precious), str(apk)],
        ["align", "--out", str(precious), str(unsigned)],
    ]
    for command in commands:
        assert avf_apk(command) == 1
        assert "it looks like text" in capsys.readouterr().err
        assert precious.read_text() == "my thesis"


def test_manual_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert man([str(tmp_path)]) == 0
    assert man([str(tmp_path)]) == 0
    (tmp_path / "vm.1").write_text("my thesis")
    assert man([str(tmp_path)]) == 1
    assert "is no manual page: it looks like text" in capsys.readouterr().err
    assert (tmp_path / "vm.1").read_text() == "my thesis"


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Kind.REPORT, render(report())), (Kind.SPANS, otlp_json(SPAN, TraceContext.new(), {}))],
)
def test_reports_and_spans(tmp_path: Path, kind: Kind, text: str) -> None:
    path = tmp_path / "file"
    check_target(path, kind)
    for content in (text + "more", text):
        write_target(path, content, kind)
        assert path.read_text() == content
    for other in (Kind.REPORT, Kind.SPANS, Kind.OUTPUT):
        if other is not kind:
            with pytest.raises(
                CliError, match=f"is no {other.value}: it looks like a {kind.value}"
            ):
                check_target(path, other)
    path.write_text("my thesis")
    with pytest.raises(CliError, match="it looks like text"):
        write_target(path, text, kind)
    assert path.read_text() == "my thesis"
    with pytest.raises(CliError, match="Failed to write"):
        check_target(tmp_path, kind)


def test_a_report_goes_into_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with open(os.open(path, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0) as reader:
        write_target(path, "page", Kind.REPORT)
        assert reader.read(10) == b"page"


def test_rules_of_make(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "com").mkdir()
    (tmp_path / "com/IA.aidl").write_text("package com; interface IA {}")
    command = ["-o", str(tmp_path / "out"), "--map", "com=made", "--depfile", str(tmp_path / "d")]
    assert avf_aidl([*command, str(tmp_path)]) == 0
    assert avf_aidl([*command, str(tmp_path)]) == 0
    (tmp_path / "d").write_text("my thesis")
    assert avf_aidl([*command, str(tmp_path)]) == 1
    assert (tmp_path / "d").read_text() == "my thesis"
    assert "it is no rule of make" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [("microdroid.json", '{"kernel": "kernel"}'), ("microdroid.json", "x"), ("vmlinux", "mine")],
)
def test_a_folder_with_another_image(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ImageError, match="is in the way"):
        build_image(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, content)]


def test_a_file_that_cannot_be_read_counts_as_somebodys(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(0o200)
    program = (
        "import os\nfrom avf.overwriting import Kind, foreign\nos.setuid(65534)\n"
        "print(foreign({fd}, Kind.OUTPUT))"
    )
    with open(path, "ab") as file:
        fd = file.fileno()
        if os.getuid():
            assert foreign(fd, Kind.OUTPUT) is not None
            return
        said = subprocess.run(
            [sys.executable, "-c", program.format(fd=fd)],
            pass_fds=[fd],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert "cannot be read" in said


def test_pipes_and_devices_lose_nothing(tmp_path: Path) -> None:
    source, target = os.pipe()
    with open(source, "rb"), open(target, "wb"), open(os.devnull, "wb") as null:
        assert foreign(target, Kind.OUTPUT) is None
        assert foreign(null.fileno(), Kind.OUTPUT) is None


def test_offsets_stay(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with open(path, "rb") as file:
        file.seek(4)
        assert foreign(file.fileno(), Kind.IDSIG) == "it looks like text"
        assert file.tell() == 4


def test_what_files_look_like() -> None:
    assert looks_like(b"PK\x03\x04") == "it looks like an APK or another ZIP file"
    assert looks_like(b"Android-VM-instance") == "it looks like an instance image"
    assert looks_like("ü".encode() * 3000)[:20] == "it looks like text"
    assert looks_like(b"\xff\xfe") == "it holds data of another kind"


@pytest.mark.parametrize("start", [b"#!", b"#!/bin/sh\n"])
def test_ciphertext_is_no_script(start: bytes) -> None:
    """One storage in 65,536 begins so."""
    assert looks_like(start + b"echo\n") == "it looks like a script"
    assert looks_like(start + bytes(range(256))) == UNKNOWN


def test_a_report_that_finds_no_room_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "report"
    check_target(path, Kind.REPORT)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(CliError, match="Failed to write"):
            write_target(path, "x" * 1000, Kind.REPORT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not path.exists()
