"""A hostile program in each kind of confinement, started by root and by a user without any rights."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import avf

NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def everybodys() -> Iterator[Path]:
    """A copy of our code that every user can read, with the system's own Python."""
    with tempfile.TemporaryDirectory(prefix="avf-attack-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(
            Path(avf.__file__).parent, folder / "avf", ignore=shutil.ignore_patterns("*.pyc")
        )
        for program in ("attacker.py", "run_confined.py"):
            shutil.copy(HERE / program, folder)
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield folder


@pytest.fixture(params=["root", "a user"])
def identity(request: pytest.FixtureRequest) -> list[str]:
    """The command that makes us that user. Without root we are one already."""
    if os.geteuid() != 0:
        return []
    if request.param == "root":
        return []
    return ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--"]


@pytest.mark.parametrize("kind", ["monitor", "device"])
@pytest.mark.parametrize("level", ["full", "limited"])
def test_every_attempt_fails(
    everybodys: Path, identity: list[str], level: str, kind: str, tmp_path: Path
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="avf-attack-") as name,
        subprocess.Popen([*identity, "/bin/sleep", "1000"]) as victim,
    ):
        file = Path(name, "victim")
        file.write_text("untouched")
        runtime = Path(name, "runtime")
        runtime.mkdir(mode=0o700)
        if identity:
            for path in (Path(name), file, runtime):
                os.chown(path, NOBODY, NOBODY)
        environment = {
            "PYTHONPATH": str(everybodys),
            "PATH": os.environ["PATH"],
            "AVF_RUNTIME_DIR": str(runtime),
        }
        if level != "full":
            environment["AVF_CONFINEMENT"] = level
        command = [
            SYSTEM_PYTHON,
            str(everybodys / "run_confined.py"),
            kind,
            str(victim.pid),
            str(file),
        ]
        try:
            result = subprocess.run(
                [*identity, *command],
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert victim.poll() is None
        finally:
            victim.kill()
        assert file.read_text() == "untouched"
    found, status, report = (
        result.stdout.split(" ", 2) if result.stdout else ("", "", result.stderr)
    )
    assert (found, status) == (level, "0"), report + result.stderr
    told = json.loads(report)
    assert told["given"], "the attacker had no descriptor to try"
    assert told["succeeded"] == []
