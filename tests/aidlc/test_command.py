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


def contents(directory: Path) -> dict[str, str]:
    return {name: (directory / name).read_text() for name in files(directory)}


def test_writes_a_module(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    assert main(["-o", "out", "in/a/b/IEcho.aidl"]) == 0
    written = ["a/b/_IEcho.py", "a/b/_IEcho_async.py", "a/b/__init__.py"]
    assert files(here / "out") == written
    assert "def echo(self, x: int) -> int:" in Path("out/a/b/_IEcho.py").read_text()


def test_check(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    command = ["-o", "out", "in"]
    assert main([*command, "--check"]) == 1
    assert capsys.readouterr().err == (
        "out/a/b/_IEcho.py is out of date\n"
        "out/a/b/_IEcho_async.py is out of date\n"
        "out/a/b/__init__.py is out of date\n"
    )
    assert not Path("out").exists()
    assert main(command) == 0
    assert main([*command, "--check"]) == 0
    put("in/a/b/IEcho.aidl", ECHO.replace("echo", "say"))
    assert main([*command, "--check"]) == 1
    assert "def echo(" in Path("out/a/b/_IEcho.py").read_text()


def test_leaves_alone_what_does_not_change(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    assert main(["-o", "out", "in"]) == 0
    written = list(Path("out").rglob("*.py"))
    for path in written:
        os.utime(path, ns=(1, 1))
    assert main(["-o", "out", "in"]) == 0
    assert {path.stat().st_mtime_ns for path in written} == {1}


def test_imports_from_include_directories(here: Path) -> None:
    put("in/a/A.aidl", "package a; import b.B; import c.C; parcelable A { B b; C c; }")
    put("one/b/B.aidl", "package b; parcelable B { int x; }")
    put("two/c/C.aidl", "package c; parcelable C { int x; }")
    assert main(["-I", "one", "-I", "two", "-o", "out", "in/a/A.aidl"]) == 0
    assert files(here / "out") == [
        "a/_A.py",
        "a/__init__.py",
        "b/_B.py",
        "b/__init__.py",
        "c/_C.py",
        "c/__init__.py",
    ]


def test_imports_beside_the_file(here: Path) -> None:
    put("in/a/b/A.aidl", "package a.b; import a.c.C; parcelable A { C c; }")
    put("in/a/c/C.aidl", "package a.c; parcelable C { int x; }")
    assert main(["-o", "out", "in/a/b/A.aidl"]) == 0
    assert files(here / "out") == [
        "a/b/_A.py",
        "a/b/__init__.py",
        "a/c/_C.py",
        "a/c/__init__.py",
    ]


def test_a_package_in_a_package(here: Path) -> None:
    put("in/a/A.aidl", "package a; import a.b.B; parcelable A { B b; }")
    put("in/a/b/B.aidl", "package a.b; parcelable B { int x; }")
    assert main(["-o", "out", "in/a/b/B.aidl"]) == 0
    assert main(["-o", "out", "in/a/A.aidl"]) == 0
    assert files(here / "out") == ["a/_A.py", "a/__init__.py", "a/b/_B.py", "a/b/__init__.py"]
    assert main(["-o", "out", "in", "--check"]) == 0


def test_frozen_versions_are_left_out(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    put("in/aidl_api/a.b/1/a/b/IEcho.aidl", ECHO.replace("echo", "old"))
    assert main(["-o", "out", "in"]) == 0
    assert "def echo(" in Path("out/a/b/_IEcho.py").read_text()
    assert main(["-o", "out", "in/aidl_api/a.b/1"]) == 0
    assert "def old(" in Path("out/a/b/_IEcho.py").read_text()


def test_maps_and_external_packages(here: Path) -> None:
    put("in/a/A.aidl", "package a; import b.c.B; parcelable A { B b; }")
    put("in/b/c/B.aidl", "package b.c; parcelable B { int x; }")
    maps = ["--map", "a=mine.first", "--external", "b=theirs"]
    assert main(["-o", "out", *maps, "in/a/A.aidl"]) == 0
    assert files(here / "out") == ["mine/first/_A.py", "mine/first/__init__.py"]
    assert "from theirs.c import B  # noqa" in Path("out/mine/first/_A.py").read_text()


def test_arguments_from_a_file(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    put("arguments", "-o\nout\n--map\na.b=mine\nin\n")
    assert main(["@arguments"]) == 0
    assert files(here / "out") == ["mine/_IEcho.py", "mine/_IEcho_async.py", "mine/__init__.py"]


def test_versioned_interfaces(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    assert main(["-o", "out", "in", "--version", "2", "--hash", "notfrozen"]) == 0
    assert "        return 2\n" in Path("out/a/b/_IEcho.py").read_text()


def test_a_version_stays_when_another_run_needs_the_type(here: Path) -> None:
    """So the output does not depend on the order of runs."""
    put("in/a/b/IEcho.aidl", ECHO)
    put("in/a/b/IUser.aidl", "package a.b; interface IUser { IEcho get(); }")
    versioned = ["in/a/b/IEcho.aidl", "--version", "2", "--hash", "abc"]
    for out, runs in (
        ("one", (versioned, ["in/a/b/IUser.aidl"])),
        ("two", (["in/a/b/IUser.aidl"], versioned)),
    ):
        for run in runs:
            assert main(["-o", out, *run]) == 0
    assert contents(here / "one") == contents(here / "two")
    assert "# Version: 2\n# Hash: abc\n" in Path("one/a/b/_IEcho.py").read_text()
    assert main(["-o", "one", "in/a/b/IUser.aidl", "--check"]) == 0


@pytest.mark.parametrize("order", [("IA", "IB"), ("IB", "IA")])
def test_runs_share_a_package(here: Path, order: tuple[str, str]) -> None:
    for name in order:
        put(
            f"in/p/{name}.aidl",
            f"package p; interface {name} {{ const int MAX = 1; enum Mode {{ X }} }}",
        )
    assert main(["-o", "whole", "in"]) == 0
    for name in order:
        assert main(["-o", "out", f"in/p/{name}.aidl"]) == 0
    assert contents(here / "out") == contents(here / "whole")
    assert main(["-o", "out", "in", "--check"]) == 0


def test_a_module_that_was_deleted(here: Path) -> None:
    put("in/p/IA.aidl", "package p; interface IA {}")
    put("in/p/IB.aidl", "package p; interface IB {}")
    assert main(["-o", "out", "in"]) == 0
    Path("out/p/_IB.py").unlink()
    Path("out/p/_IB_async.py").unlink()
    assert main(["-o", "out", "in/p/IA.aidl", "--check"]) == 1
    assert main(["-o", "out", "in/p/IA.aidl"]) == 0
    assert '__all__ = ["IA", "IAAsync"]' in Path("out/p/__init__.py").read_text()


def test_runs_at_the_same_time(here: Path) -> None:
    """Each finds what the others have written."""
    names = [f"I{letter}" for letter in "ABCDEF"]
    for name in names:
        put(f"in/p/{name}.aidl", f"package p; interface {name} {{}}")
    command = [sys.executable, "-m", "avf.aidlc", "-o", "out"]
    runs = [subprocess.Popen([*command, f"in/p/{name}.aidl"]) for name in names]
    assert [run.wait(120) for run in runs] == [0] * len(names)
    assert main(["-o", "out", "in", "--check"]) == 0


def test_a_dependency_file(here: Path) -> None:
    put("in/a/A.aidl", "package a; import b.B; parcelable A { B b; }")
    put("more files/b/B.aidl", "package b; parcelable B { int x; }")
    command = ["-I", "more files", "-o", "out", "--depfile", "deps/a.d", "in/a/A.aidl"]
    assert main(command) == 0
    assert Path("deps/a.d").read_text() == (
        "out/a/_A.py out/b/_B.py out/a/__init__.py out/b/__init__.py: in/a/A.aidl more\\ files/b/B.aidl\n"
        "in/a/A.aidl:\n"
        "more\\ files/b/B.aidl:\n"
    )
    put("Makefile", "include deps/a.d\nout/a/_A.py:\n\t@touch ran\n")
    subprocess.run(["make", "-s", "out/a/_A.py"], check=True)
    assert not Path("ran").exists()
    newer = Path("out/a/_A.py").stat().st_mtime + 10
    os.utime("more files/b/B.aidl", (newer, newer))
    subprocess.run(["make", "-s", "out/a/_A.py"], check=True)
    assert Path("ran").exists()


def test_a_type_in_two_import_directories(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put("in/a/A.aidl", "package a; import b.B; parcelable A { B b; }")
    put("one/b/B.aidl", "package b; parcelable B { int x; }")
    put("two/b/B.aidl", "package b; parcelable B { int y; }")
    for roots in (["-I", "one", "-I", "two"], ["-I", "two", "-I", "one"]):
        assert main([*roots, "-o", "out", "in/a/A.aidl"]) == 1
        assert "error: b.B is in several files: " in capsys.readouterr().err
    assert main(["-I", "one", "-I", "one/../one", "-o", "out", "in/a/A.aidl"]) == 0


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("in/a/Foo.aidl", "package a; interface IBar {}", "IBar should be declared in a file called a/IBar.aidl"),
        ("in/x/IBar.aidl", "package a; interface IBar {}", "IBar should be declared in a file called a/IBar.aidl"),
        ("in/a/A.aidl", "package a; parcelable A { int x; } parcelable B { int x; }",
         "B should be declared in a file called a/B.aidl"),
        ("in/a/A.aidl", "package a; parcelable B;", "B should be declared in a file called a/B.aidl"),
    ],
)  # fmt: skip
def test_misplaced_types(
    here: Path, capsys: pytest.CaptureFixture[str], path: str, text: str, message: str
) -> None:
    put(path, text)
    assert main(["-o", "out", path]) == 1
    assert f"error: {message}\n" in capsys.readouterr().err


def test_an_imported_file_of_another_package(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put("in/a/A.aidl", "package a; import b.B; parcelable A { B b; }")
    put("in/b/B.aidl", "package c; parcelable B { int x; }")
    assert main(["-o", "out", "in/a/A.aidl"]) == 1
    assert "B should be declared in a file called c/B.aidl" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["a/b/_IEcho.py", "a/b/__init__.py", "a/b.py"])
def test_files_of_others_are_left_alone(
    here: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    put(f"out/{path}", "mine = 1\n")
    assert main(["-o", "out", "in"]) == 1
    assert f"out/{path} is in the way" in capsys.readouterr().err
    assert files(here / "out") == [path]
    assert Path("out", path).read_text() == "mine = 1\n"


def test_what_version_0_1_wrote_is_replaced(here: Path) -> None:
    put("in/a/b/IEcho.aidl", ECHO)
    old = '"""Package a.b."""\n\n# Written by avf-aidl from .aidl files: change those and run it again.\n'
    put("out/a/b.py", old)
    assert main(["-o", "out", "in", "--check"]) == 1
    assert main(["-o", "out", "in"]) == 0
    assert not Path("out/a/b.py").exists()


def test_comments_cannot_pass_for_the_head_of_a_module(here: Path) -> None:
    put(
        "in/a/b/IEcho.aidl",
        "/**\n * x\n *\n * __all__ = ['Evil']\n *\n * # Version: 7\n */\n" + ECHO,
    )
    assert main(["-o", "out", "in"]) == 0
    put("in/a/b/IOther.aidl", "package a.b; interface IOther { IEcho get(); }")
    assert main(["-o", "out", "in/a/b/IOther.aidl"]) == 0
    assert "Evil" not in Path("out/a/b/__init__.py").read_text()
    assert "get_interface_version" not in Path("out/a/b/_IEcho.py").read_text()


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
