"""The command: files in, files out, what it says and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avf.aidlc.main import main

ROOT = Path(__file__).parents[2]
ECHO = "package a.b; interface IEcho { int echo(int x); }\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def files(directory: Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def test_writes_a_module(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    assert main(["-o", "out", "in/a/b/IEcho.aidl"]) == 0
    assert files(here / "out") == ["a/b.py"]
    assert "def echo(self, x: int) -> int:" in Path("out/a/b.py").read_text()


def test_check(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    command = ["-o", "out", "in"]
    assert main([*command, "--check"]) == 1
    assert capsys.readouterr().err == "out/a/b.py is out of date\n"
    assert not Path("out").exists()
    assert main(command) == 0
    assert main([*command, "--check"]) == 0
    put("in/a/b/IEcho.aidl", ECHO.replace("echo", "say"))
    assert main([*command, "--check"]) == 1
    assert "def echo(" in Path("out/a/b.py").read_text()


def test_leaves_alone_what_does_not_change(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    assert main(["-o", "out", "in"]) == 0
    os.utime("out/a/b.py", ns=(1, 1))
    assert main(["-o", "out", "in"]) == 0
    assert Path("out/a/b.py").stat().st_mtime_ns == 1


def test_imports_from_include_directories(here: Path) -> None:
    put("in/a/A.aidl", "package a; import b.B; import c.C; parcelable A { B b; C c; }")
    put("one/b/B.aidl", "package b; parcelable B { int x; }")
    put("two/c/C.aidl", "package c; parcelable C { int x; }")
    assert main(["-I", "one", "-I", "two", "-o", "out", "in/a/A.aidl"]) == 0
    assert files(here / "out") == ["a.py", "b.py", "c.py"]


def test_imports_beside_the_file(here: Path) -> None:
    put("in/a/b/A.aidl", "package a.b; import a.c.C; parcelable A { C c; }")
    put("in/a/c/C.aidl", "package a.c; parcelable C { int x; }")
    assert main(["-o", "out", "in/a/b/A.aidl"]) == 0
    assert files(here / "out") == ["a/b.py", "a/c.py"]


def test_a_package_in_a_package(here: Path) -> None:
    put("in/a/A.aidl", "package a; import a.b.B; parcelable A { B b; }")
    put("in/a/b/B.aidl", "package a.b; parcelable B { int x; }")
    assert main(["-o", "out", "in"]) == 0
    assert files(here / "out") == ["a/__init__.py", "a/b.py"]
    assert main(["-o", "out", "in", "--check"]) == 0


def test_a_module_that_becomes_a_package(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("in/a/A.aidl", "package a; parcelable A { int x; }")
    put("in/a/b/B.aidl", "package a.b; parcelable B { int x; }")
    assert main(["-o", "out", "in/a/A.aidl"]) == 0
    assert main(["-o", "out", "in/a/b/B.aidl"]) == 1
    told = (
        "error: out/a.py is in the way of out/a/b.py; compile both packages in one run\n1 error\n"
    )
    assert capsys.readouterr().err == told
    assert main(["-o", "out", "in"]) == 0
    assert files(here / "out") == ["a/__init__.py", "a/b.py"]


def test_frozen_versions_are_left_out(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    put("in/aidl_api/a.b/1/a/b/IEcho.aidl", ECHO.replace("echo", "old"))
    assert main(["-o", "out", "in"]) == 0
    assert "def echo(" in Path("out/a/b.py").read_text()
    assert main(["-o", "out", "in/aidl_api/a.b/1"]) == 0
    assert "def old(" in Path("out/a/b.py").read_text()


def test_maps_and_external_packages(here: Path) -> None:
    put("in/a/A.aidl", "package a; import b.c.B; parcelable A { B b; }")
    put("in/b/c/B.aidl", "package b.c; parcelable B { int x; }")
    maps = ["--map", "a=mine.first", "--external", "b=theirs"]
    assert main(["-o", "out", *maps, "in/a/A.aidl"]) == 0
    assert files(here / "out") == ["mine/first.py"]
    assert "from theirs.c import B\n" in Path("out/mine/first.py").read_text()


def test_arguments_from_a_file(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    put("arguments", "-o\nout\n--map\na.b=mine\nin\n")
    assert main(["@arguments"]) == 0
    assert files(here / "out") == ["mine.py"]


def test_versioned_interfaces(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    assert main(["-o", "out", "in", "--version", "2", "--hash", "notfrozen"]) == 0
    assert "        return 2\n" in Path("out/a/b.py").read_text()


def test_errors(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("in/a/b/IEcho.aidl", "package a.b;\ninterface IEcho {\n    Nope a();\n    Nope b();\n}\n")
    assert main(["-o", "out", "in"]) == 1
    assert capsys.readouterr().err == (
        "in/a/b/IEcho.aidl:3:5: error: unknown type 'Nope'\n"
        "    Nope a();\n"
        "    ^~~~\n"
        "in/a/b/IEcho.aidl:4:5: error: unknown type 'Nope'\n"
        "    Nope b();\n"
        "    ^~~~\n"
        "2 errors\n"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.aidl"], "error: nowhere.aidl: No such file or directory\n"),
        (["empty"], "error: empty: no .aidl files in this directory\n"),
        (["binary.aidl"], "error: binary.aidl:2: no UTF-8 text\n"),
        (["huge.aidl"], "error: huge.aidl: more than 1048576 bytes\n"),
        (["-I", "nowhere", "good.aidl"], "error: nowhere: no such directory\n"),
    ],
)
def test_files_that_cannot_be_read(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("empty").mkdir()
    Path("binary.aidl").write_bytes(b"package a;\n\xff\n")
    Path("huge.aidl").write_bytes(b" " * ((1 << 20) + 1))
    put("good.aidl", ECHO)
    assert main(["-o", "out", *arguments]) == 1
    assert capsys.readouterr().err == f"{message}1 error\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["x.aidl"],
        ["-o", "out"],
        ["-o", "out", "x.aidl", "--map", "a"],
        ["-o", "out", "x.aidl", "--map", "a=b-c"],
        ["-o", "out", "x.aidl", "--version", "0"],
        ["-o", "out", "x.aidl", "--hash", 'a"b'],
    ],
    ids=" ".join,
)
def test_wrong_usage(here: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_runs_as_a_module(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    command = [sys.executable, "-m", "avf.aidlc", "-o", "out", "in"]
    assert subprocess.run(command, check=False).returncode == 0
    assert subprocess.run([*command, "--check"], check=False).returncode == 0


def test_the_projects_own_contracts_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["@src/avf/aidl/idl/avf-aidl.args", "--check"]) == 0


def test_output_passes_the_projects_checks(generated: Path, tmp_path: Path) -> None:
    """Strictly typed, formatted and linted as it is written."""
    tool = Path(sys.executable).parent
    settings = ["--config", str(ROOT / "pyproject.toml")]
    mypy = [
        str(tool / "mypy"),
        "--strict",
        "--explicit-package-bases",
        "--cache-dir",
        str(tmp_path),
        ".",
    ]
    subprocess.run(mypy, check=True, cwd=generated, env=os.environ | {"MYPYPATH": str(ROOT)})
    subprocess.run([tool / "ruff", "format", "--check", *settings, "."], check=True, cwd=generated)
    ignored = ["--ignore", "RUF012,I001"]
    subprocess.run([tool / "ruff", "check", *settings, *ignored, "."], check=True, cwd=generated)
