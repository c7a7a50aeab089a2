"""Asking polkit over a real bus, and everything that can go wrong with that: never a yes."""

import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.policy import Grant, Permission, Policy
from avf.policy import polkit as polkit_module
from tests.policy.conftest import StartAuthority

USER = 64001
MANAGE, DUMP = Permission.MANAGE_VIRTUAL_MACHINE, Permission.DUMP
MANAGE_ACTION = "org.avf.manage-virtual-machine"
ASKING = Policy(polkit=True)


@pytest.fixture
def process() -> Iterator[int]:
    """Somebody's process; polkit is asked about it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child.pid


def test_names_of_actions() -> None:
    assert [p.action for p in Permission] == [
        "org.avf.manage-virtual-machine",
        "org.avf.use-custom-virtual-machine",
        "org.avf.debug-virtual-machine",
        "org.avf.dump",
    ]


def test_yes_and_no(authority: StartAuthority, process: int) -> None:
    authority(f"{MANAGE_ACTION}:{USER}")
    assert ASKING.allows(MANAGE, USER, process)
    assert not ASKING.allows(DUMP, USER, process)
    assert not ASKING.allows(MANAGE, USER + 1, process)


def test_without_need_polkit_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, process: int, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
    granted = Policy({MANAGE: Grant(uids=frozenset({USER}))}, polkit=True)
    assert granted.allows(MANAGE, USER, process)
    assert ASKING.allows(MANAGE, 0, process)
    assert not Policy().allows(MANAGE, USER, process)
    assert not ASKING.allows(MANAGE, USER)  # no process to ask about
    assert caplog.text == ""


def test_a_process_that_has_ended(authority: StartAuthority) -> None:
    authority(f"{MANAGE_ACTION}:{USER}")
    with subprocess.Popen(["true"]) as child:
        pass
    assert not ASKING.allows(MANAGE, USER, child.pid)


def test_polkit_fails(
    authority: StartAuthority, process: int, caplog: pytest.LogCaptureFixture
) -> None:
    authority(f"{MANAGE_ACTION}:fail")
    assert not ASKING.allows(MANAGE, USER, process)
    assert f"polkit cannot be asked about {MANAGE_ACTION}: out of order" in caplog.text


def test_polkit_does_not_answer(
    authority: StartAuthority,
    process: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority(f"{MANAGE_ACTION}:silent", f"{MANAGE_ACTION}:{USER}")
    monkeypatch.setattr(polkit_module, "PATIENCE_SECONDS", 0.2)
    assert not ASKING.allows(MANAGE, USER, process)
    assert "TimeoutError" in caplog.text


def test_a_bus_without_polkit(bus: str, process: int, caplog: pytest.LogCaptureFixture) -> None:
    assert not ASKING.allows(MANAGE, USER, process)
    assert "org.freedesktop.PolicyKit1 was not provided" in caplog.text


def test_no_bus(
    monkeypatch: pytest.MonkeyPatch, process: int, caplog: pytest.LogCaptureFixture
) -> None:
    for address in ("unix:path=/nonexistent", "nonsense"):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        assert not ASKING.allows(MANAGE, USER, process)
    assert caplog.text.count("polkit cannot be asked") == 2


def test_without_the_package(
    monkeypatch: pytest.MonkeyPatch, process: int, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "dbus_fast", None)
    assert not ASKING.allows(MANAGE, USER, process)
    assert "dbus-fast is not installed" in caplog.text


EXPLAIN = """
import os, sys
from pathlib import Path
import dbus_fast.aio
import avf.policy.polkit
from avf.policy import Permission, explain

uid, fd = map(int, sys.argv[1:])
os.setresuid(uid, uid, uid)
for permission in (Permission.MANAGE_VIRTUAL_MACHINE, Permission.DUMP):
    print(explain(permission, uid, system=True, file=Path(f"/proc/self/fd/{fd}")))
"""


@pytest.mark.usefixtures("several_uids")
def test_explained(authority: StartAuthority, tmp_path: Path) -> None:
    """To a user who asks about itself, as `vm doctor` does. The bus knows users with an account only."""
    uid = pwd.getpwnam("nobody").pw_uid
    authority(f"{MANAGE_ACTION}:{uid}")
    (tmp_path / "policy.toml").write_text("polkit = true\n")
    with (tmp_path / "policy.toml").open() as file:
        output = subprocess.run(
            [sys.executable, "-c", EXPLAIN, str(uid), str(file.fileno())],
            pass_fds=[file.fileno()],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    assert f"nobody (uid {uid}) has MANAGE_VIRTUAL_MACHINE by polkit: {MANAGE_ACTION}\n" in output
    assert f"nobody (uid {uid}) does not have DUMP: " in output
    assert "and polkit does not authorize org.avf.dump (see pkcheck(1))" in output
