"""`vm run-app --detach` against a virtmgr that only plays: who returns when, and what is left."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_vm import VM, Vm, environment, vm
from tests.eventually import eventually

__all__ = ["environment", "vm"]

SERVER = "server.py"


@pytest.fixture(autouse=True)
def server(tmp_path: Path) -> None:
    (tmp_path / SERVER).write_text("")


def detached(*words: str, play: str) -> subprocess.Popen[str]:
    """A process whose output ends when nobody has it open any more."""
    command = [*VM, "run-app", "--detach", *words, SERVER]
    environment = os.environ | {"FAKE_VIRTMGR_PLAY": play}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_it_returns_when_the_payload_has_started(vm: Vm, tmp_path: Path) -> None:
    """And the VM goes on: only then the log gets its second line."""
    log = tmp_path / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    script = "started,tell:one,tell:two,finished:3,died:3"
    done = vm("run-app", "--detach", "--log", log, SERVER, play=script)
    os.set_blocking(reader, True)
    with open(reader) as file:
        assert file.read().split() == ["one", "two"]  # the end: whoever stayed is gone, too
    assert (done.returncode, done.stdout) == (0, "2048\n")
    assert done.stderr.endswith("running server.py (Python script) in VM 2048, debuggable\n")


def test_json_has_the_cid_and_no_line_of_its_own(vm: Vm) -> None:
    done = vm("run-app", "--detach", "--json", SERVER, play="started,died:3")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [event["event"] for event in events] == ["created", "payload_started"]
    assert events[0]["cid"] == 2048


def test_a_vm_whose_payload_does_not_start_is_told_of(vm: Vm) -> None:
    done = vm("run-app", "--detach", SERVER, play="error:2:it is damaged,died:2")
    assert (done.returncode, done.stdout) == (1, "")
    assert "it is damaged" in done.stderr


def test_an_error_before_the_start_is_told_once(vm: Vm) -> None:
    done = vm("run-app", "--detach", "--image", "/nowhere/at/all", "none.py")
    assert done.returncode == 1
    assert done.stderr.count("none.py") == 1


@pytest.mark.parametrize("words", [("--kernel-log",), ("--timeline",), ("--console-in", "-")])
def test_what_needs_the_terminal_is_refused(vm: Vm, words: tuple[str, ...]) -> None:
    done = vm("run-app", "--detach", *words, SERVER, play="started")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{' '.join(words)} does not go with --detach" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_before_the_start_ends_the_vm(vm: Vm, number: signal.Signals) -> None:
    with detached(play="hear") as running:
        assert running.stderr is not None
        while "in VM 2048" not in running.stderr.readline():
            pass
        running.send_signal(number)
        out, _ = running.communicate(timeout=60)  # the end: nobody is left
    assert (running.returncode, out) == (128 + number, "")


def test_a_command_that_is_killed_before_the_start_leaves_no_vm(vm: Vm, tmp_path: Path) -> None:
    """Nobody would know of it."""
    typed = tmp_path / "typed"
    os.mkfifo(typed)
    keyboard = os.open(typed, os.O_RDWR)
    with detached("--console-in", str(typed), play="hear,started") as running:
        assert running.stderr is not None
        while "in VM 2048" not in running.stderr.readline():
            pass
        running.kill()
        assert running.wait() == -signal.SIGKILL
        os.write(keyboard, b"go\n")
        running.communicate(timeout=60)
    os.close(keyboard)
    assert_nobody_is_left(tmp_path)


def assert_nobody_is_left(folder: Path) -> None:
    """Whoever stays has an APK and its idsig in the folder for temporary files, and removes them in the end."""
    eventually(lambda: list((folder / "tmp").glob("avf-*")), [])


def test_the_option_is_in_the_help(vm: Vm) -> None:
    for command in ("run-app", "start"):
        assert "--detach" in vm(command, "--help").stdout
    assert "--detach" not in vm("run", "--help").stdout
