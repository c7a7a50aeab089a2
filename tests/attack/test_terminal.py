"""Text of others that tries the terminal: no command lets it move the cursor or write a line of its own."""

import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from avf.apk.__main__ import main as apk_main
from avf.binder import RemoteException
from avf.binder.errors import note, report
from avf.cli.host import _debug_form
from avf.cli.tell import JsonTeller, TextTeller, print_line, print_note
from avf.cli.text import CliError, error_chain
from avf.client import DeathReason, PayloadError, ServiceDied, VmInfo
from avf.client.process import _LogTail
from avf.disk.__main__ import main as disk_main
from avf.log_lines import PrintableFormatter
from avf.printable import printable, printable_lines
from avf.printing import printable_json

FAKE = "x\nHint: fake\r\x1b[2J\x1b]0;title\x07\u202egpj.\u2028\x9b31m\x7f\b"
NAME = FAKE.replace("/", "")
BIN = Path(sys.executable).parent


def check(shown: str) -> None:
    """The text came through, and does nothing."""
    assert "Hint: fake" in shown
    assert all(char.isprintable() or char in "\n\t" for char in shown), repr(shown)
    assert not any(line.startswith("Hint: fake") for line in shown.splitlines())


def run(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    """Both outputs of a command that fails without a traceback."""
    done = subprocess.run(
        list(map(str, arguments)),
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONUTF8": "1", "XDG_RUNTIME_DIR": str(cwd), **environment},
        timeout=60,
    )
    assert done.returncode in (1, 2), done
    shown = (done.stdout + done.stderr).decode()
    assert "Traceback" not in shown, shown
    return shown


@pytest.mark.parametrize(
    "arguments",
    [
        [NAME],
        ["run", "--cpu-topology", NAME, "config"],
        ["run", "config"],
        ["create-idsig", NAME, "out"],
        ["create-partition", f"none/{NAME}", "1048576"],
        ["tombstones", "show", NAME],
        ["doctor", NAME],
    ],
)
def test_the_words_of_a_vm_command(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "config").write_text(json.dumps({"platform_version": "1", "kernel": NAME}))
    check(run(BIN / "vm", *arguments, cwd=tmp_path))


def test_what_a_virtmgr_says_before_it_ends(tmp_path: Path) -> None:
    """Also where a word of it says something that is the command's own."""
    (tmp_path / "virtmgr").write_text(f"#!/usr/bin/python3\nimport sys\nsys.exit({FAKE!r})\n")
    (tmp_path / "virtmgr").chmod(0o755)
    (tmp_path / "apk").write_bytes(b"")
    command = [BIN / "vm", "create-idsig", "apk", "out"]
    check(run(*command, cwd=tmp_path, AVF_VIRTMGR=str(tmp_path / "virtmgr")))


@pytest.mark.parametrize(
    "arguments",
    [
        ["avf.image", NAME],
        ["avf.virtmgr", f"--{NAME}"],
        ["avf.virtualizationservice", f"--{NAME}"],
    ],
)
def test_the_words_of_a_module(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"junk")
    check(run(sys.executable, "-m", *arguments, cwd=tmp_path))


@pytest.mark.parametrize(
    "arguments",
    [
        ["disk", "info", NAME],
        ["disk", NAME],
        ["disk", "info", "file", NAME],
        ["apk", "verify", NAME],
        ["apk", "verify", NAME, "--json"],
        ["apk", NAME],
        ["apk", "verify", "file", "--sdk", NAME],
        ["apk", "lineage", "--in", NAME],
        ["apk", "align", NAME, "--check"],
        ["apk", "sign", "file", "--out", "out", "--ks", NAME, "--ks-pass", "pass:x"],
        ["apk", "sign", "file", "--out", "out", "--ks", "file", "--ks-pass", f"env:{NAME}"],
    ],
)
def test_the_words_of_a_tool(
    tmp_path: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"junk")
    module, *words = arguments
    with suppress(SystemExit):
        assert {"disk": disk_main, "apk": apk_main}[module](words) == 1
    captured = capsys.readouterr()
    check(captured.err)
    if captured.out:
        check(captured.out)


def test_a_source_of_aidl_and_its_name(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.aidl"
    text = FAKE.replace("\n", " ")
    path.write_text(f"package a;\ninterface I {{ {text} void f(}}\n")
    check(run(BIN / "avf-aidl", "-o", "out", path, cwd=tmp_path))
    check(run(BIN / "avf-aidl", "-o", "out", "-I", NAME, path, cwd=tmp_path))
    check(run(BIN / "avf-aidl", "-o", "out", f"none/{NAME}", cwd=tmp_path))


def test_a_tombstone_and_the_note_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "avf" / "tombstones"
    folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "avf").chmod(0o700)
    (folder / "tombstone_00").write_text(FAKE)
    (folder / "tombstone_00.json").write_text(json.dumps({"time": FAKE, "ended": FAKE}))
    environment = {**os.environ, "PYTHONUTF8": "1", "AVF_RUNTIME_DIR": str(tmp_path / "avf")}
    command = [str(BIN / "vm"), "tombstones"]
    for more in ([], ["--json"]):
        done = subprocess.run(
            [*command, *more], capture_output=True, check=True, env=environment, timeout=60
        )
        check(done.stdout.decode())
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run([*command, "show", "0"], stdout=theirs, check=True, env=environment)
        os.close(theirs)
        shown = terminal.read(4096).decode().replace("\r\n", "\n")
    assert all(char.isprintable() or char == "\n" for char in shown)


def chained(*errors: BaseException) -> BaseException:
    for outer, inner in pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


@pytest.mark.parametrize(
    "error",
    [
        CliError(FAKE),
        chained(CliError("a"), RemoteException.security(FAKE)),
        chained(CliError("a"), ValueError(FAKE), OSError(2, FAKE)),
        chained(CliError("a"), FileNotFoundError(2, "No such file", NAME)),
        chained(CliError("a"), FileNotFoundError(2, "No such file", os.fsencode(NAME))),
        chained(CliError("a"), ServiceDied("virtmgr has ended", FAKE)),
        ServiceDied("virtmgr has ended", FAKE),
    ],
)
def test_errors_and_their_causes(error: BaseException) -> None:
    check(error_chain(error))


def test_an_error_of_a_descriptor_is_told() -> None:
    assert error_chain(OSError(9, "Bad file descriptor", 7)) == "descriptor 7: Bad file descriptor"


def test_what_is_told_of_a_vm(capsys: pytest.CaptureFixture[str]) -> None:
    for teller in (TextTeller(console_was_shown=False), JsonTeller()):
        teller.event(PayloadError(0, FAKE))
    for tell in (print_line, print_note):
        tell(FAKE)
    info = VmInfo(2048, NAME, 0, 1)
    print(_debug_form([info]))
    print(printable_json({"directory": FAKE}))
    captured = capsys.readouterr()
    check(captured.out)
    check(captured.err)
    TextTeller(console_was_shown=False).ended(DeathReason.KILLED, None)


def test_errors_that_nobody_catches(capsys: pytest.CaptureFixture[str]) -> None:
    note(FAKE)
    report(ValueError(FAKE))
    check(capsys.readouterr().err.replace("avf.binder: ", ""))


def test_a_line_of_a_log(caplog: pytest.LogCaptureFixture) -> None:
    formatter = PrintableFormatter("service: %(levelname)s: %(message)s")
    try:
        raise ValueError(FAKE.replace("\n", " "))
    except ValueError as error:
        trace = (type(error), error, error.__traceback__)
    record = logging.LogRecord("name", logging.INFO, "file", 1, "said %s", (FAKE,), trace)
    check(formatter.format(record))
    plain = logging.LogRecord("name", logging.INFO, "file", 1, "one %s", ("line",), None)
    assert formatter.format(plain) == "service: INFO: one line"


def test_a_log_that_is_passed_on_whatever_its_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    """Characters that come in two pieces stay whole."""
    text = "grüß \x1b[2J \u4e00"
    pieces = "; ".join(
        f"os.write(2, {bytes([byte])!r}); time.sleep(0)" for byte in f"{text}\n".encode()
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"import os, time; {pieces}"], stderr=subprocess.PIPE, bufsize=0
    ) as process:
        tail = _LogTail(process, forward=True)
        process.wait()
        tail.finish()
    assert capsys.readouterr().err == "grüß \\u{1b}[2J \u4e00\n"


@pytest.mark.parametrize("make", [printable, printable_lines])
def test_every_character_is_visible(make: Callable[[str], str]) -> None:
    kept = "\n\t" if make is printable_lines else ""
    for number in [*range(0x3000), *range(0xD800, 0xF900), *range(0xE0000, 0xE0200)]:
        shown = make(chr(number))
        assert shown.isprintable() or shown in kept, hex(number)
    assert make("ä \u4e00 \\ \"'") == "ä \u4e00 \\ \"'"
