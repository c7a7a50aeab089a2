"""Frames of tombstones by name, with what a real compiler makes."""

import random
import subprocess
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from avf.cli import tombstones
from avf.cli.symbols import Symbols
from avf.cli.text import CliError

SOURCE = """\
__attribute__((noinline, noreturn)) void gives_up(volatile int *where)
{
	*where = 1;
	__builtin_trap();
}

int main(void)
{
	gives_up((int *)8);
}
"""
BASE = 0x400000
"""Where a program that is not position-independent begins; a tombstone counts from the beginning of the file."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "crash.c").write_text(SOURCE)
    command = ["gcc", "-g", "-O1", "-no-pie", "-fno-pie", "-o", "prog", "crash.c"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "prog"


def addresses(program: Path) -> dict[str, int]:
    listed = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    found = [line.split() for line in listed.splitlines()]
    return {words[2]: int(words[0], 16) for words in found if len(words) == 3}


def frame(address: int, path: str = "/mnt/apk/bin/prog", number: int = 0) -> str:
    return f"      #{number:02} pc {address - BASE:016x}  {path}"


def test_function_file_and_line(program: Path) -> None:
    start = addresses(program)["gives_up"]
    named = Symbols([program]).named(frame(start))
    assert named == f"{frame(start)} (gives_up+0) crash.c:3"


def test_a_frame_that_is_returned_to_is_where_the_call_was(program: Path) -> None:
    """A call of a function that never returns may be the last instruction: behind it begins something else."""
    places = addresses(program)
    disassembly = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", program], capture_output=True, text=True, check=True
    ).stdout
    lines = disassembly.splitlines()
    call = next(n for n, line in enumerate(lines) if "call" in line and "<gives_up>" in line)
    (size,) = [
        int(line.split()[1], 16)
        for line in subprocess.run(
            ["nm", "-S", program], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        if line.endswith(" main")
    ]
    behind = places["main"] + size
    assert int(lines[call].partition(":")[0], 16) + 5 == behind
    named = Symbols([program]).named(frame(behind, number=1))
    assert named.endswith(f" (main+{size}) crash.c:9")


def test_an_apk_a_folder_and_a_file_beside_it(program: Path, tmp_path: Path) -> None:
    apk = tmp_path / "app.apk"
    with zipfile.ZipFile(apk, "w") as archive:
        archive.write(program, "bin/prog")
    (tmp_path / "out/bin").mkdir(parents=True)
    (tmp_path / "out/bin/prog").write_bytes(program.read_bytes())
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/prog").write_bytes(program.read_bytes())
    (tmp_path / "prog.debug").write_bytes(program.read_bytes())
    line = frame(addresses(program)["main"])
    for source in (apk, tmp_path / "out", tmp_path / "flat", tmp_path / "prog.debug"):
        assert Symbols([source]).named(line).startswith(f"{line} (main+0)"), source


def test_without_symbols_the_line_stays(program: Path, tmp_path: Path) -> None:
    """A stripped file has names for what others call; a second source is asked if the first knows nothing."""
    stripped = tmp_path / "prog"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    line = frame(addresses(program)["gives_up"])
    assert Symbols([stripped]).named(line) == line
    assert Symbols([stripped, program]).named(line).endswith("crash.c:3")


@pytest.mark.parametrize(
    "line",
    [
        "backtrace:",
        "      #00 pc 0000000000001139  <anonymous>",
        "      #00 pc 0000000000001139  /mnt/apk/bin/other",
        "      #00 pc ffffffffffffffff  /mnt/apk/bin/prog",
        "      #00 pc 0000000000001139  /mnt/apk/../../../../etc/passwd",
        "      #00 pc 00",
        "    x #00 pc 0000000000001139  /mnt/apk/bin/prog",
    ],
)
def test_lines_that_stay(program: Path, line: str) -> None:
    assert Symbols([program, program.parent]).named(line) == line


def test_a_guest_cannot_have_other_files_read(program: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "prog").write_bytes(program.read_bytes())
    line = frame(addresses(program)["main"], "/mnt/apk/../prog")
    assert Symbols([tmp_path / "folder"]).named(line) == line


def test_damaged_files_only_cost_the_names(program: Path, tmp_path: Path) -> None:
    data = program.read_bytes()
    numbers = random.Random(7)
    line = frame(addresses(program)["main"])
    for _ in range(60):
        damaged = bytearray(data[: numbers.randrange(4, len(data))])
        for _ in range(20):
            damaged[numbers.randrange(4, len(damaged))] = numbers.randrange(256)
        (tmp_path / "prog").write_bytes(damaged)
        assert Symbols([tmp_path / "prog"]).named(line).startswith(line)


def test_a_source_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CliError, match="neither an APK, an ELF file nor a folder"):
        Symbols([tmp_path / "text"])


def test_the_command(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tombstones, "_folders", lambda: iter([("", tmp_path)]))
    line = frame(addresses(program)["main"])
    (tmp_path / "tombstone_03").write_text(f"backtrace:\n{line}\n\nmemory map \x1b[2J\n")
    result = CliRunner().invoke(tombstones.show, ["3", "--symbols", str(program)])
    assert result.output == f"backtrace:\n{line} (main+0) crash.c:9\n\nmemory map \\u{{1b}}[2J\n"
