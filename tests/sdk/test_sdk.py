"""What a developer of payloads has on their host: headers, compiler options, avf_payload for editors."""

import importlib.metadata
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import avf_payload
from avf.sdk import INCLUDE, __main__, cflags, libs

ROOT = Path(__file__).parents[2]
SDK = INCLUDE.parent
ALL_HEADERS = "".join(f'#include "{path.name}"\n' for path in sorted(INCLUDE.glob("*.h")))
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


@pytest.mark.parametrize(
    ("compiler", "language", "standard"),
    [("gcc", "c", "c99"), ("gcc", "c", "c17"), ("g++", "c++", "c++11"), ("g++", "c++", "c++20")],
)
def test_headers_compile_without_a_warning(compiler: str, language: str, standard: str) -> None:
    options = [f"-std={standard}", *STRICT, *cflags(), "-fsyntax-only", "-x", language, "-"]
    subprocess.run([compiler, *options], input=ALL_HEADERS.encode(), check=True)


@pytest.mark.parametrize("header", [path.name for path in sorted(INCLUDE.glob("*.h"))])
def test_each_header_stands_alone_and_may_come_twice(header: str) -> None:
    options = ["-std=c99", *STRICT, *cflags(), "-fsyntax-only", "-x", "c", "-"]
    subprocess.run(["gcc", *options], input=f'#include "{header}"\n'.encode() * 2, check=True)


def test_the_functions_stay_open_even_where_a_build_forbids_that(tmp_path: Path) -> None:
    """Build systems such as Meson link with --no-undefined."""
    source = tmp_path / "payload.c"
    source.write_text(
        '#include "vm_payload.h"\n'
        "int AVmPayload_main(void) { AVmPayload_notifyPayloadReady(); return 0; }\n"
    )
    command = ["gcc", "-shared", "-fPIC", "-Wl,--no-undefined", *cflags(), source]
    output = ["-o", tmp_path / "payload.so"]
    assert subprocess.run([*command, *output], stderr=subprocess.PIPE, check=False).returncode
    subprocess.run([*command, *output, *libs()], check=True)


def pkg_config(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PKG_CONFIG_PATH": str(folder)}
    command = ["pkg-config", *arguments, "avf-payload"]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def headers_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_pkg_config_finds_the_installed_headers(tmp_path: Path) -> None:
    """Installed as the wheel says, below any prefix."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    for source, target in shared.items():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / source, tmp_path / target)
    folder = tmp_path / "share/pkgconfig"
    assert pkg_config(folder, "--modversion") == project["project"]["version"]
    assert pkg_config(folder, "--libs").split() == libs()
    (include,) = [option[2:] for option in pkg_config(folder, "--cflags").split()]
    assert headers_in(Path(include)) == headers_in(INCLUDE)


def test_this_installation_has_the_file_for_pkg_config() -> None:
    files = importlib.metadata.files("avf-linux") or []
    assert [path for path in files if path.match("share/pkgconfig/avf-payload.pc")]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--cflags", "--libs"]) == 0
    assert capsys.readouterr().out.split() == [*cflags(), *libs()]
    assert __main__.main(["--includedir"]) == 0
    assert capsys.readouterr().out == f"{INCLUDE}\n"
    with pytest.raises(SystemExit, match="2"):
        __main__.main([])


@pytest.mark.parametrize("name", [name for name in avf_payload.__all__ if name[0].islower()])
def test_outside_of_a_guest_every_function_says_so(name: str) -> None:
    function = getattr(avf_payload, name)
    needed = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
    ]
    for _ in range(2):
        with pytest.raises(avf_payload.NotInGuestError, match="works in a payload only"):
            function(*[5000] * len(needed))


def test_type_checkers_know_avf_payload(tmp_path: Path) -> None:
    """A faulty call is found, and a right one's type is known."""
    payload = tmp_path / "payload.py"
    payload.write_text(
        "import avf_payload\n"
        "reveal_type(avf_payload.get_vm_instance_secret(b'a'))\n"
        "avf_payload.get_vm_instance_secret('a')\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path, payload]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.search(r":2: note: Revealed type is \"(builtins\.)?bytes\"", done.stdout)
    assert ":3: error: Argument 1" in done.stdout
    assert "Found 1 error" in done.stdout
