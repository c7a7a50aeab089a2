"""Outputs: whole or not at all, and never over what is read."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import InputError, OutputError, SigningKey
from avf.apk.__main__ import main
from avf.apk.output import Outputs, check_collisions

KEEP = b"an older file that somebody needs"


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
        out.write_bytes(KEEP)
        idsig.write_bytes(KEEP)
    before = snapshot(directory)
    assert main(sign_arguments(files, out, "--idsig", idsig)) == 1
    assert snapshot(directory) == before


def test_a_failed_idsig_of_a_sign_leaves_the_apk_too(files: dict[str, Path]) -> None:
    directory = files["apk"].parent
    out = directory / "out.apk"
    out.write_bytes(KEEP)
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
    (directory / "lineage").write_bytes(KEEP)
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
    (directory / "real.apk").write_bytes(KEEP)
    (directory / "link.apk").symlink_to("real.apk")
    assert main(sign_arguments(files, directory / "link.apk")) == 0
    assert (directory / "link.apk").is_symlink()
    assert main(["verify", str(directory / "real.apk")]) == 0


KILLED = """
import os, signal, sys
from avf.apk import output
from avf.apk.__main__ import main

def kill(frame, event, argument):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

real = {name: getattr(os, name) for name in ("fsync", "link", "ftruncate", "pwrite")}
left = int(sys.argv[1])
for name, function in real.items():
    def counted(*arguments, _function=function, **named):
        kill(None, None, None)
        return _function(*arguments, **named)
    setattr(os, name, counted)
main(sys.argv[2:])
"""


@pytest.mark.parametrize("call", range(7))
def test_a_killed_sign_leaves_whole_files(files: dict[str, Path], call: int) -> None:
    """SIGKILL before the system call number `call` that writes, syncs or names an output."""
    directory = files["apk"].parent
    out, idsig = directory / "out.apk", directory / "out.idsig"
    out.write_bytes(KEEP)
    idsig.write_bytes(KEEP)
    before = snapshot(directory)
    arguments = sign_arguments(files, out, "--idsig", idsig)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(call), *arguments], check=False, capture_output=True
    )
    after = snapshot(directory)
    assert {name: after[name] for name in before if "out" not in name} == {
        name: data for name, data in before.items() if "out" not in name
    }
    assert not set(after) - set(before)
    for path, command in ((out, ["verify", out]), (idsig, ["verify", out, "--idsig", idsig])):
        if path.read_bytes() != KEEP:
            assert main([str(item) for item in command]) == 0
    if call == 0:
        assert done.returncode == -signal.SIGKILL


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
    target.write_bytes(KEEP)
    with Outputs() as outputs:
        outputs.open(target).write(b"new")
    assert snapshot(tmp_path) == {"file": KEEP}
    with Outputs() as outputs:
        outputs.open(target).write(b"new")
        outputs.commit()
    assert snapshot(tmp_path) == {"file": b"new"}


def test_errors_name_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        check_collisions([tmp_path / "a"], [tmp_path / "a"])
    assert caught.value.file == str(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"), Outputs() as outputs:
        outputs.open(tmp_path / "pipe")
