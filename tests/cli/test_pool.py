"""`vm pool`, without a machine that runs: this guest image is none."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.eventually import eventually

VM = [sys.executable, "-m", "avf.cli"]


@pytest.fixture(autouse=True)
def no_image(runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_IMAGE_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("AVF_WARM", raising=False)
    monkeypatch.delenv("AVF_POOL", raising=False)


def pool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*VM, "pool", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("script", "status"), [("exit 3", 3), ("kill -9 $$", 128 + signal.SIGKILL), (":", 0)]
)
def test_the_commands_exit_status_is_passed_on(script: str, status: int) -> None:
    done = pool("run", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr


def test_a_command_that_is_none() -> None:
    done = pool("run", "--", "/no/such/command")
    assert done.returncode == 1
    assert "cannot run /no/such/command: No such file or directory" in done.stderr


def test_what_runs_in_a_pool_sees_it_and_it_goes_with_the_command(tmp_path: Path) -> None:
    """The socket is the user's alone; why no clone waits is told."""
    inner = f"{' '.join(VM)} pool status --json; ls -l $AVF_POOL; echo $AVF_POOL"
    done = pool("run", "-n", "3", "--wait", "--", "sh", "-c", inner)
    assert done.returncode == 0, done.stderr
    text, _, rest = done.stdout.rpartition("}")
    found = json.loads(text + "}")
    assert (found["wanted"], found["waiting"], found["settled"]) == (3, 0, True)
    assert "no guest image (microdroid.json) in" in found["problem"]
    assert "no guest image (microdroid.json) in" in done.stderr
    listed, path = rest.strip().splitlines()
    assert listed.startswith("srw-------")
    assert not Path(path).parent.exists()


def test_the_whole_state_in_lines() -> None:
    done = pool("run", "--wait", "--", *VM, "pool", "status")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["0 of 2 clones wait", "VMs that had one: 0; that had none: 0"]
    assert lines[2].startswith("problem: no clone waits: no guest image")


def test_no_pool_within_a_pool() -> None:
    done = pool("run", "--", *VM, "pool", "run", "--", "true")
    assert done.returncode == 1
    assert "runs within a pool already" in done.stderr


def test_there_may_be_none() -> None:
    done = pool("status")
    assert done.returncode == 1
    assert "there is no pool here" in done.stderr
    assert "vm pool run -- COMMAND" in done.stderr


def test_warm_starts_may_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_WARM", "off")
    done = pool("run", "--", "true")
    assert done.returncode == 1
    assert "AVF_WARM is off: no clones are made" in done.stderr


def test_a_pool_that_has_ended_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVF_POOL", str(tmp_path / "socket"))
    done = pool("status")
    assert done.returncode == 1
    assert f"AVF_POOL is {tmp_path}/socket, where no virtmgr is shared" in done.stderr


def test_a_pool_that_is_told_to_end_ends_its_command(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 600"
    process = subprocess.Popen([*VM, "pool", "run", "--", "sh", "-c", script])
    try:
        eventually((tmp_path / "pid").exists, True, 60)
        pid = int((tmp_path / "pid").read_text())
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    finally:
        process.kill()
        process.wait()
