"""What all tests share: nothing a test starts may outlive it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from avf.vmm import user_templates
from tests import programs, progress
from tests import several_uids as uids
from tests.eventually import eventually

BUILD = Path(__file__).parents[1] / "build"
PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 15
MADE_AT: dict[Path, float] = {}
"""When the runtime directories of tests were made, by the clock that counts from the host's boot."""

programs.hide_those_for_root()

# VMs boot by themselves, and no test makes templates unasked, which outlives it; `make warm` runs tests with clones.
os.environ.setdefault("AVF_WARM", "off")

# How fast a machine makes examples says nothing of what is tested.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    progress.register(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for the fixture `several_uids`, directly or not, can be selected by a marker of that name."""
    for item in items:
        if "several_uids" in getattr(item, "fixturenames", ()):
            item.add_marker("several_uids")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skipped here, and not by the fixture, all of them are one line of pytest's summary."""
    if item.get_closest_marker("several_uids") and not uids.here():
        pytest.skip(uids.LACK)


@pytest.fixture(scope="session")
def several_uids() -> None:
    """For tests that act as several users; `python -m tests` finds a way to run them."""


@pytest.fixture(scope="session", autouse=True)
def programs_heed_signals() -> None:
    """They would ignore SIGINT as a test run in the background does, and SIGHUP as one under nohup does."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Orphans come to us; any that has not ended by itself some seconds after the last test fails the session."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    left = wait_for_children(GRACE_SECONDS)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes outlived the tests: {[command_line(pid) for pid in left]}"


def wait_for_children(seconds: float) -> list[int]:
    """Reaps what ends; the pids of the children that have not ended after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return []
        if time.monotonic() > deadline:
            return children(os.getpid())
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """The pids of a process's children, of all its threads."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


@pytest.fixture(scope="session", autouse=True)
def nothing_is_kept_in_the_home() -> Iterator[None]:
    """What services that tests start keep over reboots goes elsewhere."""
    with (
        tempfile.TemporaryDirectory(prefix="avf-state-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_STATE_HOME", folder)
        # templates are named by all that they depend on: those of an earlier run are as good as new ones
        patch.setenv("XDG_CACHE_HOME", str(BUILD / "cache") if is_warm() else f"{folder}/cache")
        yield


def is_warm() -> bool:
    """Whether apps' VMs are to begin as clones of templates in this run."""
    return os.environ.get("AVF_WARM") == "on"


@pytest.fixture
def runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of the test's own, so with a virtualizationservice of its own, which also
    keeps there what outlives a reboot; must be empty of VMs again."""
    with tempfile.TemporaryDirectory(prefix="avf-", ignore_cleanup_errors=True) as folder:
        MADE_AT[Path(folder)] = time.clock_gettime(time.CLOCK_BOOTTIME)
        monkeypatch.setenv("AVF_RUNTIME_DIR", folder)
        monkeypatch.setenv("XDG_STATE_HOME", f"{folder}/state")
        yield Path(folder)
        eventually(lambda: everything_in(f"{folder}/vms"), [])


def everything_in(folder: str) -> list[str]:
    """What is there, which may be about to go."""
    return sorted(
        f"{path}/{name}" for path, folders, files in os.walk(folder) for name in (*folders, *files)
    )


@pytest.fixture(scope="session")
def image_dir() -> Iterator[Path]:
    """The guest image as `make image` has built it."""
    folder = Path(os.environ.setdefault("AVF_IMAGE_DIR", str(BUILD / "image")))
    assert (folder / "microdroid.json").exists(), "no guest image: run `make image`"
    if not is_warm():
        yield folder
        return
    make_templates()
    with user_templates().lock():  # whoever has it: no test makes others, which would outlive it
        yield folder


def make_templates() -> None:
    """Those that tests need mostly; a run on several processors makes each once."""
    for level in ("full", "none"):
        command = [sys.executable, "-P", "-m", "avf.virtmgr.template_builder", "--debug", level]
        while b"somebody else" in subprocess.run(command, capture_output=True, check=True).stdout:
            time.sleep(0.1)


@pytest.fixture(scope="session")
def sample_apk() -> Path:
    path = BUILD / "payload" / "sample.apk"
    assert path.exists(), "no sample payload: run `make build/payload/sample.apk`"
    return path
