"""docs/binder.md: its samples run as they are printed, and its reference names everything."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import avf.binder
from avf.binder import aio
from tests.eventually import eventually

GUIDE = (Path(__file__).parents[2] / "docs/binder.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", GUIDE, re.DOTALL)
SAMPLES = dict(
    found.groups()
    for language, text in BLOCKS
    if language == "python" and (found := re.fullmatch(r"# (\w+\.py)\n(.*)", text, re.DOTALL))
)
SESSIONS = [text for language, text in BLOCKS if language == "console"]


def commands(session: str) -> list[tuple[str, str]]:
    """What is typed, and what is printed then."""
    parts = re.split(r"^\$ (.*)\n", session, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@contextmanager
def in_background(arguments: list[str], folder: Path) -> Iterator[None]:
    with subprocess.Popen(arguments, cwd=folder) as process:
        try:
            (name,) = re.findall(r'unix\("(.*?)"\)', SAMPLES[arguments[1]])
            eventually(lambda: accepts(folder / name), True, 60)
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize(
    "session", SESSIONS, ids=[commands(session)[-1][0] for session in SESSIONS]
)
def test_a_sample_prints_what_the_guide_says(tmp_path: Path, session: str) -> None:
    for name, text in SAMPLES.items():
        (tmp_path / name).write_text(text)
    with ExitStack() as stack:
        for command, printed in commands(session):
            arguments = command.removesuffix(" &").split()
            if arguments[0] == "python":
                arguments[0] = sys.executable
            elif shutil.which(arguments[0]) is None:
                pytest.skip(f"there is no {arguments[0]}")
            if command.endswith(" &"):
                stack.enter_context(in_background(arguments, tmp_path))
                continue
            done = subprocess.run(
                arguments,
                cwd=tmp_path,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if arguments[0] == "openssl" else None,
                text=True,
                check=True,
                timeout=120,
            )
            assert done.stdout == printed


def test_the_samples_have_the_types_they_say(tmp_path: Path) -> None:
    for name, text in SAMPLES.items():
        (tmp_path / name).write_text(text)
    mypy = [str(Path(sys.executable).with_name("mypy")), "--strict", "--cache-dir", "cache"]
    subprocess.run([*mypy, *SAMPLES], cwd=tmp_path, check=True, timeout=300)


def test_every_sample_is_run() -> None:
    run = {word for session in SESSIONS for word in session.split() if word.endswith(".py")}
    imported = {
        f"{name}.py" for text in SAMPLES.values() for name in re.findall(r"from (\w+)", text)
    }
    assert set(SAMPLES) - imported == run
    assert len(SAMPLES) == len(re.findall(r"^# \w+\.py$", GUIDE, re.MULTILINE))


def test_the_first_sample_is_short() -> None:
    assert len([line for line in SAMPLES["server.py"].splitlines() if line]) <= 20
    assert len([line for line in SAMPLES["client.py"].splitlines() if line]) <= 12


def test_the_reference_has_every_public_name() -> None:
    reference = GUIDE[GUIDE.index("\n## API\n") : GUIDE.index("\n## Coming from libbinder\n")]
    named = {
        word
        for row in reference.splitlines()
        if row.startswith("|")
        for code in re.findall(r"`([^`]*)`", row.split("|")[1])
        for word in re.findall(r"[\w.]+", code)
    }
    assert set(avf.binder.__all__) - named == set()
    assert {f"aio.{name}" for name in aio.__all__} - named == set()


def test_links_within_the_guide_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", GUIDE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#(.*?)\)", GUIDE)) - headings == set()
