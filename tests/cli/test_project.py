"""`vm new`, `vm build`, `vm keygen`: from nothing to a signed APK."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from avf.apk import SigningKey, claimed_public_key, read_package
from avf.cli.command import vm
from avf.cli.text import CliError
from avf.project import recorded_main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def run(*words: str, asked: str | None = None) -> Result:
    result = CliRunner().invoke(vm, words, input=asked)
    assert isinstance(result.exception, CliError | SystemExit | None), result.exception
    return result


def refused(*words: str) -> str:
    result = run(*words)
    assert isinstance(result.exception, CliError)
    return str(result.exception)


@pytest.mark.parametrize(
    ("template", "main"), [("python", "main.py"), ("c", "libmain.so"), ("service", "main.py")]
)
def test_a_new_project_can_be_built_at_once(folder: Path, template: str, main: str) -> None:
    made = run("new", "my-first", "--template", template)
    assert made.exit_code == 0
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"my-first/README.md", "my-first/.gitignore", "my-first/payload.toml"} <= names
    assert "run it:  vm run-app my-first\n" in made.stderr
    assert not any("@NAME@" in (folder / n).read_text() or n.endswith(".in") for n in names)
    assert run("build", "my-first").exit_code == 0
    with open("my-first.apk", "rb") as file:
        assert recorded_main(file.fileno()) == main
        package = read_package(file.fileno())
    assert package is not None
    assert (package.name, package.version) == ("com.example.my_first", 1)


def test_the_services_tests_pass(folder: Path) -> None:
    run("new", "greeter", "-t", "service")
    tested = subprocess.run(
        [sys.executable, "-m", "unittest"], cwd=folder / "greeter", capture_output=True, text=True
    )
    assert "Ran 2 tests" in tested.stderr
    assert tested.returncode == 0, tested.stderr


@pytest.mark.parametrize("name", ["a b", "-x", "ü", "x" * 64, ".hidden"])
def test_names_that_no_project_has(folder: Path, name: str) -> None:
    assert "is no name for a project" in refused("new", "--", name)
    assert not list(folder.iterdir())


def test_a_project_takes_no_ones_place(folder: Path) -> None:
    (folder / "mine").write_text("mine")
    (folder / "folder").mkdir()
    for name in ("mine", "folder"):
        assert "is there already" in refused("new", name)
    assert (folder / "mine").read_text() == "mine"
    assert not list((folder / "folder").iterdir())


def test_build_says_what_it_made_and_takes_its_own_place(folder: Path) -> None:
    (folder / "hello.py").write_text("print()")
    made = run("build", "hello.py", "--package", "org.example.hello", "--version", "7")
    assert "made hello.apk: package org.example.hello, version 7, 1 file\n" in made.stderr
    assert run("build", "hello.py").exit_code == 0
    assert stat.S_IMODE((folder / "hello.apk").stat().st_mode) & 0o400
    assert sorted(path.name for path in folder.iterdir()) == ["hello.apk", "hello.py"]


def test_build_writes_over_apks_only(folder: Path) -> None:
    (folder / "hello.py").write_text("print()")
    assert "hello.py is not empty and is no APK" in refused("build", "hello.py", "-o", "hello.py")
    assert (folder / "hello.py").read_text() == "print()"
    assert "cannot be written" in refused("build", "hello.py", "-o", "absent/x.apk")


def test_a_failed_build_keeps_the_former_apk(folder: Path) -> None:
    run("new", "p")
    assert run("build", "p").exit_code == 0
    before = (folder / "p.apk").read_bytes()
    (folder / "p/out").symlink_to("/etc/passwd")
    assert "leads out of the folder" in refused("build", "p")
    assert (folder / "p.apk").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["p", "p.apk"]


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048"])
def test_keygen_makes_what_signs(folder: Path, kind: str) -> None:
    assert run("keygen", "key.pem", "--kind", kind, "--common-name", "Me").exit_code == 0
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    content = (folder / "key.pem").read_bytes()
    (folder / "hello.py").write_text("print()")
    assert run("build", "hello.py", "--key", "key.pem").exit_code == 0
    with open("hello.apk", "rb") as file:
        claimed = claimed_public_key(file.fileno())
    assert claimed == SigningKey.load(content, content).public_key
    assert "never written over" in refused("keygen", "key.pem")
    assert (folder / "key.pem").read_bytes() == content


def test_keygen_makes_key_stores(folder: Path) -> None:
    (folder / "password").write_text("secret words\nmore\n")
    (folder / "hello.py").write_text("print()")
    assert run("keygen", "a.p12", "--password-file", "password").exit_code == 0
    assert run("keygen", "b.p12", asked="asked\nasked\n").exit_code == 0
    SigningKey.from_key_store((folder / "b.p12").read_bytes(), "asked")
    build = ["build", "hello.py", "--key", "a.p12", "--password-file"]
    assert run(*build, "password").exit_code == 0
    (folder / "password").write_text("wrong\n")
    assert "the key a.p12 cannot be used" in refused(*build, "password")
    (folder / "password").write_text("\n")
    assert "has no password" in refused(*build, "password")


def test_keygen_leaves_a_dangling_link_alone(folder: Path) -> None:
    (folder / "key.pem").symlink_to(folder / "elsewhere")
    assert "is there already" in refused("keygen", "key.pem")
    assert not (folder / "elsewhere").exists()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("runapp", "run-app"), ("run_app", "run-app"), ("lst", "list"), ("builds", "build")],
)
def test_a_misspelt_command(typed: str, meant: str) -> None:
    result = run(typed)
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.stderr


def test_a_misspelt_option() -> None:
    result = run("run-app", "--paylod-status", "x")
    assert result.exit_code == 2
    assert "--payload-status" in result.stderr


@pytest.mark.parametrize("command", vm.list_commands(None))  # type: ignore[arg-type]
def test_every_command_has_an_example(command: str) -> None:
    text = run(command, "--help").stdout
    assert "Example" in text
    assert f"vm {command}" in text.partition("Example")[2]
