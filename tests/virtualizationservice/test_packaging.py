"""What goes into a system: units that systemd takes, rights that suffice and are no more, an example that loads."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from avf.policy import Permission, load_policy
from tests.eventually import eventually
from tests.virtualizationservice.daemon import ALICE, BOB, Host, effective_uid
from tests.virtualizationservice.test_tombstones import guest

PACKAGING = Path(__file__).parents[2] / "packaging"
UNIT = PACKAGING / "systemd" / "avf-virtualizationservice.service"
SERVICE = 64100
"""Stands for the user `avf`."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they are, but for the daemon's place."""
    daemon = Path(sys.executable).with_name("virtualizationservice")
    for path in (UNIT, UNIT.with_suffix(".socket")):
        text = path.read_text().replace("/usr/bin/virtualizationservice", str(daemon))
        (tmp_path / path.name).write_text(text)
    return tmp_path


def test_systemd_takes_the_units(units: Path) -> None:
    names = [str(units / UNIT.with_suffix(kind).name) for kind in (".service", ".socket")]
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_the_service_is_well_confined(units: Path) -> None:
    """On systemd's scale of 0 to 100, from closed to open."""
    subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", units / UNIT.name],
        check=True,
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.usefixtures("several_uids")
def test_user_and_directory(tmp_path: Path) -> None:
    for kind in ("sysusers", "tmpfiles"):
        folder = tmp_path / f"usr/lib/{kind}.d"
        folder.mkdir(parents=True)
        shutil.copy(PACKAGING / "systemd" / f"{kind}.conf", folder / "avf.conf")
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], check=True)
    subprocess.run(["systemd-tmpfiles", f"--root={tmp_path}", "--create"], check=True)
    name, _, uid, gid, _, _, shell = (tmp_path / "etc/passwd").read_text().strip().split(":")
    assert (name, shell) == ("avf", "/usr/sbin/nologin")
    status = (tmp_path / "run/avf").stat()
    assert (status.st_uid, status.st_gid) == (int(uid), int(gid))
    assert stat.S_IMODE(status.st_mode) == 0o755


def test_the_example_of_a_policy_loads(tmp_path: Path) -> None:
    text = (PACKAGING / "policy.toml.example").read_text()
    file = tmp_path / "policy.toml"
    file.write_text(text.replace('"avf"', '"root"'))  # a group that every host has
    policy = load_policy(system=True, file=file)
    assert set(policy.grants) == set(Permission)
    assert not policy.polkit


def test_polkit_knows_the_actions() -> None:
    root = ElementTree.parse(PACKAGING / "polkit" / "org.avf.policy").getroot()
    assert {action.get("id") for action in root.iter("action")} == {p.action for p in Permission}
    owners = {a.text for a in root.iter("annotate")}
    assert owners == {"unix-user:avf"}


def capabilities() -> list[str]:
    """Those of the unit that this host's root has; a container may lack SYS_RESOURCE."""
    (line,) = [x for x in UNIT.read_text().splitlines() if x.startswith("AmbientCapabilities=")]
    numbers = {"CAP_CHOWN": 0, "CAP_DAC_READ_SEARCH": 2, "CAP_SYS_RESOURCE": 24}
    (held,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "CapEff" in x]
    mask = int(held.split()[1], 16)
    return [
        name.removeprefix("CAP_").lower()
        for name in line.partition("=")[2].split()
        if mask >> numbers[name] & 1
    ]


def test_the_units_rights_suffice(host: Host) -> None:
    """The daemon with the unit's user and capabilities, and nothing else of root's."""
    wanted = ",".join(["-all", *(f"+{name}" for name in capabilities())])
    rights = [f"--{kind}={wanted}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    user = [f"--reuid={SERVICE}", f"--regid={SERVICE}", "--clear-groups", "--no-new-privs"]
    host.directory.mkdir()
    os.chown(host.directory, SERVICE, SERVICE)
    with host.daemon(wrapper=["setpriv", *user, *rights]) as daemon:
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        assert f"\nUid:\t{SERVICE}\t{SERVICE}" in status
        with host.client(ALICE) as alice, host.client(BOB) as bob:
            context = alice.allocate_global_vm_context(77)
            other = bob.allocate_global_vm_context(78)
            directory = Path(context.get_temporary_directory())
            assert (directory.stat().st_uid, stat.S_IMODE(directory.stat().st_mode)) == (
                ALICE,
                0o700,
            )
            inner = directory / "inner"
            inner.mkdir(mode=0)
            (inner / "file").touch()
            os.chown(inner, ALICE, ALICE)
            guest(host, ALICE, context.get_cid(), b"dying words")
            tombstone = host.directory / "tombstones" / str(ALICE) / "tombstone_00"
            assert tombstone.stat().st_uid == SERVICE
            with effective_uid(ALICE):
                assert tombstone.read_bytes() == b"dying words"
            assert json.loads(tombstone.with_name("tombstone_00.json").read_text())["cid"] == 2048
            guest(host, ALICE, context.get_cid(), b"more of them")
            assert [info.cid for info in bob.debug_list_vms()] == [2048, other.get_cid()]
        eventually(host.vms, [])
