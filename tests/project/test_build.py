"""From a source to a signed APK."""

import io
import json
import zipfile
from pathlib import Path

import pytest

from avf.apk import SigningKey, read_package, verify
from avf.project import Built, ProjectError, build, open_project, recorded_main

C = """
#include "vm_payload.h"
int helper(void);
int AVmPayload_main(void) { return helper(); }
"""


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def made(path: Path, key: SigningKey, tmp_path: Path) -> tuple[Built, dict[str, int]]:
    """What was built, and the entries with their modes."""
    apk = tmp_path / "made.apk"
    with open(apk, "w+b") as file:
        built = build(open_project(path), file, key)
        verify(file.fileno())
        assert recorded_main(file.fileno()) == built.main
        package = read_package(file.fileno())
    assert package is not None
    assert (package.name, package.version) == (built.package, built.version)
    with zipfile.ZipFile(apk) as archive:
        modes = {info.filename: info.external_attr >> 16 & 0o777 for info in archive.infolist()}
    ours = {"AndroidManifest.xml", "assets/avf-payload.json"}
    return built, {name: mode for name, mode in modes.items() if name not in ours}


def test_a_script(tmp_path: Path, key: SigningKey) -> None:
    (tmp_path / "Hello World.py").write_text("print()")
    built, entries = made(tmp_path / "Hello World.py", key, tmp_path)
    assert built == Built("Hello World.py", "avf.local.hello_world_py", 1, 1)
    assert entries == {"bin/Hello World.py": 0o755}


def test_a_c_program(tmp_path: Path, key: SigningKey) -> None:
    """Sources with a main become a program, which is not linked like a payload library."""
    (tmp_path / "hello.c").write_text("int main(void) { return 3; }")
    built, entries = made(tmp_path / "hello.c", key, tmp_path)
    assert built.main == "hello"
    assert entries == {"bin/hello": 0o755}
    folder = write(
        tmp_path / "tool",
        {
            "main.c": "int help(void);\nint main (void) { return help(); }",
            "help.c": "int help(void) { return 0; }",
            "data.txt": "x",
        },
    )
    built, entries = made(folder, key, tmp_path)
    assert built.main == "main"
    assert entries == {"bin/main": 0o755, "bin/data.txt": 0o644}


def test_cpp_sources(tmp_path: Path, key: SigningKey) -> None:
    """Each file is compiled as what its name says: a C++ compiler would take the C file for C++."""
    folder = write(
        tmp_path / "mixed",
        {
            "main.cpp": """
                #include <string>
                #include "vm_payload.h"
                extern "C" int length(const char *);
                extern "C" int AVmPayload_main() { return length(std::string("four").c_str()); }
            """,
            "length.c": "int length(const char *class) { int n = 0; while (class[n]) n++; return n; }",
            "length.hpp": "",
        },
    )
    _, entries = made(folder, key, tmp_path)
    assert entries == {"lib/x86_64/libmain.so": 0o755}


def test_c_sources_with_both_beginnings_are_a_library(tmp_path: Path, key: SigningKey) -> None:
    (tmp_path / "both.c").write_text(
        "int main() { return 1; }\nint AVmPayload_main() { return 0; }"
    )
    _, entries = made(tmp_path / "both.c", key, tmp_path)
    assert entries == {"lib/x86_64/libboth.so": 0o755}


def test_a_python_project(tmp_path: Path, key: SigningKey) -> None:
    folder = write(
        tmp_path / "greeter",
        {
            "main.py": "",
            "pkg/__init__.py": "",
            "assets/logo.txt": "",
            "data.txt": "",
            ".git/config": "",
            "__pycache__/main.pyc": "",
            "venv/pyvenv.cfg": "",
            "venv/lib/x.py": "",
            "tests/test_main.py": "",
            "old.apk": "",
            "key.pem": "-----BEGIN PRIVATE KEY-----",
            "authority.pem": "-----BEGIN CERTIFICATE-----",
            "payload.toml": 'package = "org.example.greeter"\nversion = 3\n',
        },
    )
    built, entries = made(folder, key, tmp_path)
    assert built == Built("main.py", "org.example.greeter", 3, 5)
    assert entries == {
        "bin/main.py": 0o755,
        "bin/pkg/__init__.py": 0o644,
        "bin/data.txt": 0o644,
        "bin/authority.pem": 0o644,
        "assets/logo.txt": 0o644,
    }


def test_a_c_project(tmp_path: Path, key: SigningKey) -> None:
    folder = write(
        tmp_path / "adder",
        {"main.c": C, "helper.c": "int helper(void) { return 3; }", "table.txt": ""},
    )
    built, entries = made(folder, key, tmp_path)
    assert built.main == "libmain.so"
    assert entries == {"lib/x86_64/libmain.so": 0o755, "assets/table.txt": 0o644}


def test_c_that_does_not_compile(
    tmp_path: Path, key: SigningKey, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.c").write_text("int AVmPayload_main(void) { return nonsense; }")
    with pytest.raises(ProjectError, match=r"could not compile .*x\.c"):
        build(open_project(tmp_path / "x.c"), io.BytesIO(), key)
    assert "nonsense" in capfd.readouterr().err


def test_c_without_its_function(tmp_path: Path, key: SigningKey) -> None:
    (tmp_path / "x.c").write_text("int main_one(void) { return 0; }")
    with pytest.raises(ProjectError, match=r"/x\.c has no function AVmPayload_main"):
        build(open_project(tmp_path / "x.c"), io.BytesIO(), key)


@pytest.mark.parametrize(
    ("files", "main", "rule"),
    [
        (["main.py", "other.py", "run"], "main.py", "for its name"),
        (["__main__.py", "other.py"], "__main__.py", "for its name"),
        (["main.sh", "other.py"], "main.sh", "for its name"),
        (["greeter.py", "data.txt"], "greeter.py", "the only file there that can be run"),
        (["main.py", "other.py", "payload.toml"], "other.py", "payload.toml names it"),
    ],
)
def test_which_file_is_the_payload(tmp_path: Path, files: list[str], main: str, rule: str) -> None:
    folder = write(tmp_path / "p", dict.fromkeys(files, "#!/bin/sh\n"))
    (folder / "data.txt").write_text("data")
    if "payload.toml" in files:
        (folder / "payload.toml").write_text('main = "other.py"')
    project = open_project(folder)
    assert (project.main.name, project.rule) == (main, rule)
    assert main in project.summary
    assert rule in project.summary


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.py": "", "b.py": ""}, "which file is the payload? a.py, b.py"),
        ({"data.txt": "x"}, "no file there can be run"),
        ({"main.py": "", "payload.toml": 'main = "absent.py"'}, "absent.py, which is not there"),
        ({"main.py": "", "payload.toml": 'main = "../x.py"'}, "must name a file at the top"),
        ({"main.py": "", "payload.toml": "nonsense"}, "payload.toml: "),
        ({"main.py": "", "payload.toml": "build = 'rm -rf /'"}, "build is no known field"),
        ({"main.py": "", "payload.toml": "version = 0"}, "version must be from 1"),
        ({"main.py": "", "payload.toml": "package = 'one'"}, "looks like org.example.greeter"),
    ],
)
def test_projects_that_are_refused(tmp_path: Path, files: dict[str, str], said: str) -> None:
    folder = write(tmp_path / "p", files)
    with pytest.raises(ProjectError) as error:
        open_project(folder)
    assert said in str(error.value)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, key: SigningKey) -> None:
    (tmp_path / "secret").write_text("not for the guest")
    folder = write(tmp_path / "p", {"main.py": "", "real.txt": ""})
    (folder / "inside.txt").symlink_to("real.txt")
    made(folder, key, tmp_path)
    (folder / "outside.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ProjectError, match="leads out of the folder"):
        made(folder, key, tmp_path)


def test_an_apk_that_says_nothing_of_its_payload(tmp_path: Path) -> None:
    apk = tmp_path / "a.apk"
    for content in (b"not json", b'{"main": "../x"}', b'{"main": ""}', b"[]", b"x" * 10_000):
        with zipfile.ZipFile(apk, "w") as archive:
            archive.writestr("assets/avf-payload.json", content)
        with open(apk, "rb") as file:
            assert recorded_main(file.fileno()) is None
    apk.write_bytes(b"no zip")
    with open(apk, "rb") as file:
        assert recorded_main(file.fileno()) is None
    with zipfile.ZipFile(apk, "w") as archive:
        archive.writestr("assets/avf-payload.json", json.dumps({"main": "a.py", "more": 1}))
    with open(apk, "rb") as file:
        assert recorded_main(file.fileno()) == "a.py"
