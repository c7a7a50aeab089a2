"""How the level is found out, and what a program sees at each."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from avf.confine import (
    Box,
    ConfinementError,
    Filter,
    Level,
    Limits,
    existing,
    explain_confinement,
    image_folder,
    needs_of,
    spawn,
)
from avf.confine.filters import compile_filter
from avf.confine.levels import VARIABLE

pytestmark = pytest.mark.usefixtures("nothing_is_left")
SHELL = Box(
    Filter.OPEN, Limits(64, 1 << 20), tuple(existing([*needs_of("/bin/sh"), *needs_of("/bin/ls")]))
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing is known of this host yet, and nothing stays known."""
    monkeypatch.setenv("AVF_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv(VARIABLE, raising=False)
    explain_confinement.cache_clear()
    yield
    explain_confinement.cache_clear()


def a_bwrap(folder: Path, script: str) -> str:
    """PATH with a bwrap in front that does as the script says."""
    program = folder / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def said_by(command: list[str], box: Box | None, fds: list[int] | None = None) -> tuple[int, str]:
    read_end, write_end = os.pipe()
    with open(read_end) as report:
        child = spawn(command, fds=fds or [], stderr=write_end, box=box)
        os.close(write_end)
        text = report.read()
    return child.reap(), text


def test_full_where_bubblewrap_works() -> None:
    assert explain_confinement().level is Level.FULL


def test_a_bubblewrap_that_may_not_make_namespaces(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = "bwrap: setting up uid map: Permission denied"
    monkeypatch.setenv("PATH", a_bwrap(tmp_path, f"echo '{words}' >&2; exit 1"))
    report = explain_confinement()
    assert report.level is Level.LIMITED
    assert words in report.reason
    assert report.fix
    assert image_folder() == "/proc/self/fd"


def test_no_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in ("sh", "setpriv"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("avf.confine.levels.needs_of", lambda _: [])
    report = explain_confinement()
    assert report.level is not Level.FULL
    assert report.reason.startswith("bubblewrap is not installed")
    assert report.fix == "sudo apt-get install bubblewrap"


def test_required(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, "required")
    assert explain_confinement().level is Level.FULL
    explain_confinement.cache_clear()
    (tmp_path / "runtime/host-facts.json").unlink()
    monkeypatch.setenv("PATH", a_bwrap(tmp_path, "exit 3"))
    with pytest.raises(
        ConfinementError, match="AVF_CONFINEMENT=required, but confinement is limited"
    ):
        spawn(["/bin/true"], fds=[], stderr=2, box=SHELL)


def test_a_level_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "tight")
    with pytest.raises(ConfinementError, match="AVF_CONFINEMENT is 'tight'; it must be required"):
        explain_confinement()


def test_success_is_remembered_until_the_next_boot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counting = a_bwrap(tmp_path, f'echo >> {tmp_path}/runs; exec /usr/bin/bwrap "$@"')
    monkeypatch.setenv("PATH", counting)
    for _ in range(3):
        assert explain_confinement().level is Level.FULL
        explain_confinement.cache_clear()
    assert (tmp_path / "runs").read_text() == "\n"


def test_the_root_is_empty_and_cannot_be_written_to() -> None:
    status, text = said_by(["/bin/sh", "-c", "ls -d /* >&2; : > /new"], SHELL)
    assert status
    top = {f"/{path.parts[1]}" for path in SHELL.readable}
    assert {word for word in text.split() if word.startswith("/") and word[1:].isalnum()} == top


def test_images_are_found_by_their_number_and_only_read(tmp_path: Path) -> None:
    named, nameless = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT), os.memfd_create("image")
    os.write(named, b"by name\n")
    os.write(nameless, b"from memory\n")
    box = replace(SHELL, images=(named, nameless))
    folder = image_folder()
    script = f"read a < {folder}/{named}; read b < {folder}/{nameless}; echo $a, $b >&2; : >> {folder}/{named}"
    try:
        status, text = said_by(["/bin/sh", "-c", script], box)
    finally:
        os.close(named)
        os.close(nameless)
    assert text.startswith("by name, from memory\n")
    assert "Read-only file system" in text
    assert status
    assert (tmp_path / "image").read_bytes() == b"by name\n"


@pytest.mark.parametrize("level", ["full", "limited"])
def test_an_image_that_only_root_may_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, level: str
) -> None:
    """virtmgr may: it hands the file on, and not the right to it."""
    if level != "full":
        monkeypatch.setenv(VARIABLE, level)
    (tmp_path / "image").write_text("private\n")
    (tmp_path / "image").chmod(0o600)
    with (tmp_path / "image").open("rb") as file:
        box = replace(SHELL, images=(file.fileno(),), uid=0x7000_0000 + 2048)
        script = f"read a < {image_folder()}/{file.fileno()}; echo $a >&2"
        assert said_by(["/bin/sh", "-c", script], box, [file.fileno()]) == (0, "private\n")


@pytest.mark.parametrize("level", ["full", "limited", "none"])
def test_limits_hold_at_every_level(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    if level != "full":
        monkeypatch.setenv(VARIABLE, level)
    box = replace(SHELL, limits=Limits(40, 8192))
    _, text = said_by(["/bin/sh", "-c", "ulimit -Hc >&2; ulimit -Hn >&2; ulimit -Hf >&2"], box)
    assert text.split() == ["0", "40", "16"]  # the last in units of 512 bytes


@pytest.mark.parametrize("level", ["full", "limited", "none"])
def test_how_a_program_ended_is_told_at_every_level(
    monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    if level != "full":
        monkeypatch.setenv(VARIABLE, level)
    for script, expected in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -ABRT $$", -6),
        ("kill -KILL $$", -9),
    ]:
        assert said_by(["/bin/sh", "-c", script], SHELL)[0] == expected, script


@pytest.mark.parametrize("kind", list(Filter))
def test_filters_are_programs_that_the_kernel_takes(kind: Filter) -> None:
    instructions, rest = divmod(len(compile_filter(kind)), 8)
    assert 32 < instructions <= 4096
    assert rest == 0


def test_paths_within_others_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "ab").touch()
    paths = [tmp_path / "ab", tmp_path / "a/b", tmp_path / "a/../a", tmp_path / "none"]
    assert existing(paths) == [tmp_path / "a", tmp_path / "ab"]


def test_what_a_script_needs(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"#!{sys.executable} -S\n")
    needs = needs_of(str(script))
    assert script in needs
    assert any(Path(sys.base_prefix).is_relative_to(path) for path in needs)
    with pytest.raises(ConfinementError, match="none cannot be read"):
        needs_of(str(tmp_path / "none"))


def test_a_device_node_that_it_may_open() -> None:
    box = replace(SHELL, devices=(Path("/dev/null"),))
    status, text = said_by(["/bin/sh", "-c", "echo x > /dev/null; ls -l /dev >&2"], box)
    assert status == 0
    assert [line[0] for line in text.splitlines()[1:]] == ["c"]
