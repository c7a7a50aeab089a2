"""Outputs: whole or not at all, and never over what is read."""

import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import InputError, OutputError, SigningKey, entries, read_entry
from avf.apk.__main__ import main
from avf.apk.output import Outputs, check_collisions
from avf.overwriting import Kind

APK = b"PK\x03\x04, an older APK that somebody needs"
IDSIG = struct.pack("<IIIB", 2, 1, 1, 12) + b", an older idsig that somebody needs"
LINEAGE = struct.pack("<I", 0x3EFF39D1) + b", an older lineage that somebody needs"


@pytest.fixture
def files(tmp_path: Path, unsigned: Path, keys: dict[str, SigningKey]) -> dict[str, Path]:
    """An APK, the files of two keys and a place for a lineage."""
    made = {"apk": tmp_path / "in.apk"}
    made["apk"].write_bytes(unsigned.read_bytes())
    for name, kind in (("old", "ec-p256"), ("new", "rsa-2048")):
        for part, pem in zip(("key", "cert"), keys[kind].to_pem(), strict=True):
            made[f"{name}-{part}"] = tmp_path / f"{name}.{part}"
            made[f"{name}-{part}"].write_bytes(pem)
    return made


def sign_arguments(files: dict[str, Path], out: Path, *more: object) -> list[str]:
    key, certificate = files["old-key"], files["old-cert"]
    given = ["sign", files["apk"], "--out", out, "--key", key, "--cert", certificate, *more]
    return [str(item) for item in given]


def snapshot(directory: Path) -> dict[str, bytes]:
    """Every file, hidden ones included."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("damaged", ["apk", "old-key", "old-cert"])
@pytest.mark.parametrize("old", [True, False])
def test_a_failed_sign_changes_no_file(files: dict[str, Path], damaged: str, old: bool) -> None:
    directory = files["apk"].parent
    out, idsig = directory / "out.apk", directory / "out.idsig"
    files[damaged].write_bytes(b"damaged")
    if old:
        out.write_bytes(APK)
        idsig.write_bytes(IDSIG)
    before = snapshot(directory)
    assert main(sign_arguments(files, out, "--idsig", idsig)) == 1
    assert snapshot(directory) == before


def test_a_failed_idsig_of_a_sign_leaves_the_apk_too(files: dict[str, Path]) -> None:
    directory = files["apk"].parent
    out = directory / "out.apk"
    out.write_bytes(APK)
    before = snapshot(directory)
    assert main(sign_arguments(files, out, "--idsig", directory / "none" / "idsig")) == 1
    assert snapshot(directory) == before


def alias_of(path: Path, kind: str) -> Path:
    """Another name of the same file."""
    if kind == "same":
        return path
    if kind == "dotted":
        return path.parent / "." / ".." / path.parent.name / path.name
    alias = path.with_name(f"{kind}-{path.name}")
    alias.symlink_to(path) if kind == "symlink" else alias.hardlink_to(path)
    return alias


@pytest.mark.parametrize("kind", ["same", "dotted", "symlink", "hardlink"])
@pytest.mark.parametrize("which", ["apk", "old-key", "old-cert"])
@pytest.mark.parametrize("output", ["--out", "--idsig"])
def test_an_output_is_none_of_the_inputs(
    files: dict[str, Path], kind: str, which: str, output: str
) -> None:
    directory = files["apk"].parent
    alias = alias_of(files[which], kind)
    before = snapshot(directory)
    out = alias if output == "--out" else directory / "out.apk"
    more = ["--idsig", alias] if output == "--idsig" else []
    assert main(sign_arguments(files, out, *more)) == 1
    assert snapshot(directory) == before


def test_two_outputs_are_two_files(files: dict[str, Path]) -> None:
    out = files["apk"].parent / "out.apk"
    assert main(sign_arguments(files, out, "--idsig", out)) == 1
    assert not out.exists()


def test_the_idsig_command_keeps_the_apk(files: dict[str, Path]) -> None:
    before = snapshot(files["apk"].parent)
    assert main(["idsig", str(files["apk"]), str(files["apk"])]) == 1
    assert snapshot(files["apk"].parent) == before


def test_rotate_keeps_the_keys_the_apk_and_a_lineage_that_it_cannot_read(
    files: dict[str, Path],
) -> None:
    directory = files["apk"].parent
    signers = [
        item
        for name in ("old", "new")
        for item in (
            f"--{name}-signer",
            *("--key", str(files[f"{name}-key"]), "--cert", str(files[f"{name}-cert"])),
        )
    ]
    (directory / "lineage").write_bytes(LINEAGE)
    before = snapshot(directory)
    lineage = str(directory / "lineage")
    assert main(["rotate", "--in", lineage, "--out", lineage, *signers]) == 1
    assert main(["rotate", "--in", str(files["apk"]), "--out", str(files["apk"]), *signers]) == 1
    for target in ("old.key", "new.cert"):
        assert main(["rotate", "--out", str(directory / target), *signers]) == 1
        assert snapshot(directory) == before
    assert snapshot(directory) == before


def test_in_place_replaces_the_apk_and_keeps_its_mode(files: dict[str, Path]) -> None:
    apk = files["apk"]
    apk.chmod(0o640)
    options = ["--key", str(files["old-key"]), "--cert", str(files["old-cert"])]
    assert main(["sign", str(apk), "--in-place", *options]) == 0
    assert main(["verify", str(apk)]) == 0
    assert stat.S_IMODE(apk.stat().st_mode) == 0o640


def test_a_symbolic_link_stays_one(files: dict[str, Path]) -> None:
    directory = files["apk"].parent
    (directory / "real.apk").write_bytes(APK)
    (directory / "link.apk").symlink_to("real.apk")
    assert main(sign_arguments(files, directory / "link.apk")) == 0
    assert (directory / "link.apk").is_symlink()
    assert main(["verify", str(directory / "real.apk")]) == 0


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from avf.apk import idsig_update, signing_plan
from avf.apk.__main__ import main

POINTS, source, command = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]

def run(directory, last):
    \"\"\"The command in a copy of the files, killed at its call number `last`; the number of its calls.\"\"\"
    shutil.copytree(source, directory)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.chdir(directory)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        calls = 0
        def count(frame, event, argument):
            nonlocal calls
            calls += event == "c_call"
            if event == "c_call" and calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.setprofile(count)
        status = main(command)
        sys.setprofile(None)
        os.write(writer, str(calls).encode())
        os._exit(status)
    os.close(writer)
    status = os.waitpid(child, 0)[1]
    assert status in ((signal.SIGKILL, 0) if last else (0,)), status
    return int(os.read(reader, 20) or 0)

total = run(source.with_name("whole"), 0)
# the last calls give the files their names
for number in range(POINTS):
    run(source.with_name(f"killed-{number}"), total * (number + 1) // (POINTS + 1))
for number in range(POINTS, 2 * POINTS):
    run(source.with_name(f"killed-{number}"), total - 2 * (number - POINTS) - 1)
"""
POINTS = 12


@pytest.mark.parametrize(
    "command", ["sign", "in place", "only idsig", "rotate", "lineage", "align"]
)
def test_a_killed_sign_leaves_whole_files(
    files: dict[str, Path], tmp_path: Path, command: str
) -> None:
    """SIGKILL at many points, most of them near the end: each file is the old one or the new one."""
    source = tmp_path / "source"
    source.mkdir()
    for path in files.values():
        path.rename(source / path.name)
    (source / "out.apk").write_bytes(APK)
    (source / "out.apk.idsig").write_bytes(IDSIG)
    old, new = (["--key", f"{name}.key", "--cert", f"{name}.cert"] for name in ("old", "new"))
    rotate = ["--old-signer", *old, "--new-signer", *new]
    at = str(source / "lineage")
    given = [str(source / item) if item.startswith(("old.", "new.")) else item for item in rotate]
    assert main(["rotate", "--out", at, *given]) == 0
    arguments = {
        "sign": ["sign", "in.apk", "--out", "out.apk", *old, "--v4-signing-enabled"],
        "in place": ["sign", "in.apk", "--in-place", *new],
        "only idsig": ["idsig", "in.apk", "out.apk.idsig"],
        "rotate": ["rotate", "--out", "lineage", *rotate],
        "lineage": ["lineage", "--in", "lineage", "--out", "lineage", "--signer", *old,
                    "--set-rollback"],
        "align": ["align", "in.apk", "--in-place", "--lib-page-alignment", "4096"],
    }[command]  # fmt: skip
    if command == "only idsig":
        sign = ["sign", str(source / "in.apk"), "--in-place"]
        assert (
            main([*sign, *["--key", str(source / "old.key"), "--cert", str(source / "old.cert")]])
            == 0
        )
    subprocess.run(
        [sys.executable, "-c", KILLED, str(POINTS), str(source), *arguments],
        check=True,
        timeout=240,
    )
    before, whole = snapshot(source), snapshot(tmp_path / "whole")
    outputs = {name for name in whole if whole[name] != before.get(name)}
    assert outputs
    for number in range(2 * POINTS):
        after = snapshot(tmp_path / f"killed-{number}")
        assert after.keys() == before.keys()
        for name in after.keys() - outputs:
            assert after[name] == before[name], name
        for name in outputs:
            check_whole(tmp_path / f"killed-{number}" / name, changed=after[name] != before[name])


def check_whole(path: Path, *, changed: bool) -> None:
    if not changed:
        return
    if path.name == "lineage":
        assert main(["lineage", "--in", str(path)]) == 0
    elif path.suffix == ".idsig":
        apk = path.with_name("in.apk")
        signed = path.with_name("out.apk")
        if signed.read_bytes() != APK:
            apk = signed
        assert main(["verify", str(apk), "--idsig", str(path)]) == 0
    elif main(["info", str(path)]) == 0:
        with path.open("rb") as file:
            assert all(read_entry(file, item.name, limit=1 << 20) for item in entries(file))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.mkdir()])
def test_only_a_regular_file_is_replaced(
    files: dict[str, Path], make: Callable[[Path], None]
) -> None:
    out = files["apk"].parent / "out.apk"
    make(out)
    assert main(sign_arguments(files, out)) == 1
    assert not out.is_file()


def test_a_file_system_without_unnamed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    target = tmp_path / "file"
    target.write_bytes(APK)
    with Outputs() as outputs:
        outputs.open(target, Kind.APK).write(b"new")
    assert snapshot(tmp_path) == {"file": APK}
    with Outputs() as outputs:
        outputs.open(target, Kind.APK).write(b"new")
        outputs.commit()
    assert snapshot(tmp_path) == {"file": b"new"}


def test_errors_name_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        check_collisions([tmp_path / "a"], [tmp_path / "a"])
    assert caught.value.file == str(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"), Outputs() as outputs:
        outputs.open(tmp_path / "pipe", Kind.APK)


@pytest.mark.parametrize("command", ["sign", "idsig of sign", "align", "idsig", "rotate"])
def test_an_output_without_room_is_the_file_that_is_wrong(
    files: dict[str, Path], signed: Path, command: str
) -> None:
    directory = files["apk"].parent
    old = ["--key", files["old-key"], "--cert", files["old-cert"]]
    new = ["--key", files["new-key"], "--cert", files["new-cert"]]
    wanted = directory / "wanted"
    arguments = {
        "sign": ["sign", files["apk"], "--out", wanted, *old],
        "idsig of sign": [
            *["sign", signed, "--v4-signing-enabled", "only", "--idsig", wanted],
            *new,
        ],
        "align": ["align", files["apk"], "--out", wanted],
        "idsig": ["idsig", signed, wanted],
        "rotate": ["rotate", "--out", wanted, "--old-signer", *old, "--new-signer", *new],
    }[command]
    done = subprocess.run(
        ["prlimit", "--fsize=64", sys.executable, "-m", "avf.apk", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"{wanted}: File too large\n")
    assert not wanted.exists()


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_standard_output_without_room_is_told(signed: Path, more: list[str]) -> None:
    command = [sys.executable, "-m", "avf.apk", "verify", str(signed), *more]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "standard output: No space left on device\n")


def test_nothing_is_said_of_a_reader_that_has_gone(signed: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "avf.apk", "info", str(signed)]
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_a_replaced_file_keeps_its_group(files: dict[str, Path]) -> None:
    apk = files["apk"]
    groups = [group for group in os.getgroups() if group != apk.stat().st_gid]
    group = 12345 if os.geteuid() == 0 else groups[0] if groups else apk.stat().st_gid
    owner = 12346 if os.geteuid() == 0 else -1
    os.chown(apk, owner, group)
    before = apk.stat()
    key, certificate = files["old-key"], files["old-cert"]
    arguments = ["sign", apk, "--in-place", "--key", key, "--cert", certificate]
    assert main([str(item) for item in arguments]) == 0
    after = apk.stat()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
