"""Children: what they inherit, and that they die with their parent."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from avf.confine import ConfinementError, SpawnError
from avf.confine.spawn import _CHECK_PARENT, _EXECUTE, Child, spawn
from tests.vmm.conftest import children_of

_LIST_DESCRIPTORS = "for fd in $(seq 0 99); do [ ! -e /proc/$$/fd/$fd ] || echo $fd; done"
NEVER_STARTED = 125
"""The launcher's status when the parent was gone before it had asked for the signal."""
pytestmark = pytest.mark.usefixtures("nothing_is_left")


def run(*command: str, fds: list[int] | None = None) -> tuple[int, str]:
    """Exit status and standard error of a child."""
    read, write = os.pipe()
    with open(read) as file:
        try:
            child = spawn(command, fds=fds or [], stderr=write)
        finally:
            os.close(write)
        text = file.read()
    return child.reap(), text


def shell(script: str, *arguments: str, fds: list[int] | None = None) -> tuple[int, str]:
    return run("/bin/sh", "-c", f"exec >&2; {script}", "sh", *arguments, fds=fds)


def test_only_the_given_descriptors_are_inherited() -> None:
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    given = os.memfd_create("given")
    try:
        status, text = shell(_LIST_DESCRIPTORS, fds=[given])
    finally:
        os.close(stray)
        os.close(given)
    assert (status, set(text.split())) == (0, {"0", "1", "2", str(given)})


def test_the_environment_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    _, text = shell("env")
    names = {line.partition("=")[0] for line in text.splitlines()}
    assert "PATH" in names and "SECRET" not in names


def test_arguments_arrive_as_they_are() -> None:
    strange = ["", " ", "$(id)", "a'b\"c", "-x", "ä\n"]
    status, text = shell('printf "%s|" "$@"', *strange)
    assert (status, text) == (0, "|".join(strange) + "|")


def test_the_child_leads_its_own_session() -> None:
    child = sleeper()
    try:
        assert os.getsid(child.pid) == child.pid
    finally:
        child.abort()


def test_nul_cannot_be_passed() -> None:
    with pytest.raises(SpawnError, match="NUL"):
        run("/bin/true", "a\0b")


def test_without_setpriv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfinementError, match="setpriv"):
        run("/bin/true")


def sleeper() -> Child:
    return spawn(["/bin/sleep", "1000"], fds=[], stderr=2)


def test_killing() -> None:
    child = sleeper()
    assert not child.has_ended()
    child.kill()
    assert child.reap() == -signal.SIGKILL
    assert child.has_ended()
    child.kill()
    child.kill_unless_ended()
    with pytest.raises(ValueError, match="reaped"):
        child.fileno()


def test_an_exit_status_survives_kill_unless_ended() -> None:
    child = spawn(["/bin/sh", "-c", "exit 7"], fds=[], stderr=2)
    select.select([child], [], [])
    child.kill_unless_ended()
    assert child.reap() == 7


def test_the_child_outlives_the_thread_that_asked_for_it() -> None:
    made: list[Child] = []
    thread = threading.Thread(target=lambda: made.append(sleeper()))
    thread.start()
    thread.join()
    (child,) = made
    try:
        # The signal of a parent's death is sent while the thread ends, so it would have arrived.
        assert select.select([child], [], [], 0.2)[0] == []
    finally:
        child.abort()


def test_the_child_dies_with_a_killed_parent() -> None:
    program = (
        "import sys, time; from avf.confine.spawn import spawn\n"
        "print(spawn(['/bin/sleep', '1000'], fds=[], stderr=2).pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        pidfd = os.pidfd_open(pid)
        try:
            parent.kill()
            parent.wait()
            assert select.select([pidfd], [], [], 10)[0] == [pidfd]
        finally:
            os.close(pidfd)
    _, status = os.waitpid(pid, 0)  # orphans come to the test session
    assert os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, NEVER_STARTED)


def test_a_child_whose_parent_is_gone_does_not_start() -> None:
    """The launcher compares its parent with the one it was told, after it has asked for the signal."""
    script = f"{_CHECK_PARENT}; {_EXECUTE}"
    command = ["setpriv", "--pdeathsig", "KILL", "--", "/bin/sh", "-c", script]
    result = subprocess.run(
        [*command, "1", "/bin/echo", "started"], capture_output=True, check=False
    )
    assert (result.returncode, result.stdout) == (NEVER_STARTED, b"")


def test_a_forked_copy_of_the_process_can_spawn() -> None:
    sleeper().abort()
    program = (
        "import os; from avf.confine.spawn import spawn\n"
        "run = lambda: spawn(['/bin/true'], fds=[], stderr=2).reap()\n"
        "run(); pid = os.fork()\n"
        "if pid == 0: os._exit(run() + 40)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    assert subprocess.run(command, capture_output=True, timeout=30, check=True).stdout == b"40\n"


def test_many_at_once() -> None:
    made: list[Child] = []
    threads = [threading.Thread(target=lambda: made.append(sleeper())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({child.pid for child in made} & set(children_of(os.getpid()))) == 20
    for child in made:
        child.abort()
