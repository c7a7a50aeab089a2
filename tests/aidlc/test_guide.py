"""Every block of code in docs/avf-aidl.md, compiled or run as it stands."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avf.aidlc.main import main
from tests.eventually import eventually

GUIDE = (Path(__file__).parents[2] / "docs" / "avf-aidl.md").read_text()
BLOCK = re.compile(r"(?:`([\w/]+\.\w+)`:\n\n)?```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [match.groups() for match in BLOCK.finditer(GUIDE)]
FILES = {name: text for name, _, text in BLOCKS if name}
GENERATED = next(text for _, _, text in BLOCKS if text.startswith("# Written by avf-aidl"))
UNNAMED = [text for name, kind, text in BLOCKS if kind == "python" and not name]
SNIPPETS = [text for text in UNNAMED if text != GENERATED]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the guide's files, and what avf-aidl makes of those in AIDL."""
    directory = tmp_path_factory.mktemp("guide")
    for name, kind, text in BLOCKS:
        if kind == "aidl":
            declared = re.search(r"^(?:interface|parcelable) (\w+)", text, re.MULTILINE)
            assert declared is not None
            path = directory / (name or f"in/com/example/{declared[1]}.aidl")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif name:
            (directory / name).write_text(text)
    assert main(["-o", str(directory / "src"), str(directory / "in")]) == 0
    return directory


def run(example: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(example / "src")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=example,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@contextmanager
def serving(example: Path, server: str) -> Iterator[None]:
    path = example / "echo.sock"
    path.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(example / "src")}
    command = [sys.executable, server]
    with subprocess.Popen(command, cwd=example, env=environment) as process:
        try:
            eventually(lambda: accepts(path), True)
            yield
        finally:
            process.terminate()


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {kind for _, kind, _ in BLOCKS} == {"aidl", "python", "text"}
    assert len(GUIDE.split("```")) == 2 * len(BLOCKS) + 1


def test_the_module_that_is_shown(example: Path) -> None:
    assert (example / "src/com/example/_IEcho.py").read_text() == GENERATED


@pytest.mark.parametrize("server", ["server.py", "async_server.py"])
def test_servers_and_clients(example: Path, server: str) -> None:
    """Each client with each server; what is printed stands in the guide for those of one face."""
    printed = [text for _, kind, text in BLOCKS if kind == "text"]
    with serving(example, server):
        blocking, coroutine = run(example, "client.py"), run(example, "async_client.py")
    assert coroutine == printed[1]
    if server == "server.py":
        assert blocking == printed[0]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets(example: Path, snippet: str) -> None:
    assert run(example, "-c", snippet) == ""


def test_the_guide_is_strictly_typed(example: Path) -> None:
    for number, snippet in enumerate(SNIPPETS):
        (example / f"snippet{number}.py").write_text(snippet)
    root = Path(__file__).parents[2]
    mypy = [str(Path(sys.executable).with_name("mypy")), "--strict", "--explicit-package-bases"]
    programs = sorted(str(path) for path in example.glob("*.py"))
    environment = {**os.environ, "MYPYPATH": f"{root / 'src'}:{example / 'src'}"}
    command = [*mypy, "--cache-dir", str(example / "cache"), *programs]
    subprocess.run(command, check=True, cwd=example, env=environment)
